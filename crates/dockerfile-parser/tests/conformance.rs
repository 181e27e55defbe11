//! The test data of the reference implementation, which is not part of this repository.
//!
//! `RBUILD_CONFORMANCE` names the directory that holds it.

mod conformance {
    mod data;
    mod ignore;
    mod instructions;
    mod words;
}
