//! Runs one process in namespaces, unprivileged.
