//! What the user asked for, lowered to content-addressed operations per platform; pure.
