//! Everything kept on disk between builds, and what turns one kind of it into another.
