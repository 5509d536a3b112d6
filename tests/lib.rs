//! Tests of the whole product; they stand in `tests/it`, their data in `fixtures`.
