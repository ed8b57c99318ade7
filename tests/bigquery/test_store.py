"""The BigQuery store against a local server's BigQuery surface, by both ways of writing."""

from typing import ClassVar

import pytest
from warehouse_world import WarehouseContract, bigquery_store

from eventmill.store.local.store import LocalStore


class TestStorageWriteApi(WarehouseContract):
    pass


class TestInsertAll(WarehouseContract):
    options: ClassVar = {"write": "insert_all"}


@pytest.mark.slow
class TestStorageWriteApiOnDisk(WarehouseContract):
    @pytest.fixture
    def store(self, tmp_path):
        with (
            LocalStore.open(str(tmp_path / "store")) as behind,
            bigquery_store(behind, folder=str(tmp_path)) as store,
        ):
            yield store
