"""Transforms of Apache Beam over Eventmill's tables. Needs ``eventmill[server,beam]``."""

from eventmill.beam.counters import Counters
from eventmill.beam.csv_text import ConvertToCSV
from eventmill.beam.dead_letters import with_dead_letters
from eventmill.beam.events_pipeline import EventsPipeline
from eventmill.beam.folded_combine import FoldedCombine
from eventmill.beam.folds import (
    AnyTrue,
    Count,
    Fold,
    Largest,
    LatestValue,
    OneValue,
    Smallest,
    Total,
    Union,
)
from eventmill.beam.keyed_combine import KeyedCombine
from eventmill.beam.merge_laws import check_merge_laws
from eventmill.beam.read_table import ReadTable
from eventmill.beam.slot import BeamSlot
from eventmill.beam.write_table import WriteTable

__all__ = [
    "AnyTrue",
    "BeamSlot",
    "ConvertToCSV",
    "Count",
    "Counters",
    "EventsPipeline",
    "Fold",
    "FoldedCombine",
    "KeyedCombine",
    "Largest",
    "LatestValue",
    "OneValue",
    "ReadTable",
    "Smallest",
    "Total",
    "Union",
    "WriteTable",
    "check_merge_laws",
    "with_dead_letters",
]
