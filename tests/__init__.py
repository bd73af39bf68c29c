"""unit: decisions on plain values; contract: one suite over every engine; e2e: real processes; model: the protocol."""
