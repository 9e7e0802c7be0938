"""Files of any kind: atomic writes, arrays, tables, strict JSON, the project lock."""
