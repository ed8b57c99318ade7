"""When slots are run and what is told of them: the run book, the scheduler, alerts, hand-over."""
