"""The corpus format: tables, documents, prediction encoding. All read from `schemas/`, the single source of truth."""

from metaquery.schema.documents import check_document, schema_root
from metaquery.schema.tables import TABLE_NAMES, Column, Table, configs_schema, table

__all__ = ["TABLE_NAMES", "Column", "Table", "check_document", "configs_schema", "schema_root", "table"]
