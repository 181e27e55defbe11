//! Physical lines to logical ones.
