//! Decides what to run, in what order, and what not to run again.
