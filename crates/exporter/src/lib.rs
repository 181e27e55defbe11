//! Assembles layers into images and indexes and delivers them.
