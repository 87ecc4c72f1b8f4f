//! What system tests share. The tests themselves are in `tests/`.

pub mod crash;
