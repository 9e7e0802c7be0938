"""How bytes reach the disk and come back: atomic writes, checked arrays, tables, strict JSON, the lock."""
