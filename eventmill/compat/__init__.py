"""Drop-in surfaces: calls and hooks that programs have already, with Eventmill behind them."""
