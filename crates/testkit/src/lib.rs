//! Test support: case loader, real-registry handle, the layering test.
