//! What people see: progress while a build runs, and the report when it went wrong.

pub(crate) mod printable;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod units;
