"""What an event means: tables, .proto files to columns, and the judgement on one event.

Imports ``base`` alone. Decides, and touches neither disk nor network; protoc is run here.
"""
