//! The system calls that need `unsafe`: one call per block, each with the reason why it is sound.
