//! Holds nothing: the crate exists for the features that it asks of its dependencies.
