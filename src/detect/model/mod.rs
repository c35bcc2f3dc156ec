//! What a model is: its input, how its outputs are read, its classes; decided from what it declares and a trial run.

pub mod description;
mod label_file;
pub mod labels;
pub mod reading;
pub mod trial;
