//! The JSON form of arguments.
