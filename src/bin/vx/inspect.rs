// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vx inspect`: prints what a media file or URL contains and what would be read of it, or what a model is and how it would be used.

mod alternatives;
mod media;
mod model;

use std::borrow::Cow;

use crate::terminal::{print_error, print_line, printable, show_bytes};
use clap::Args;
use gstvx::path::{name_of, path_of};

/// The arguments.
#[derive(Args)]
pub struct Arguments {
    /// Media files, HTTP URLs of media files, and ONNX models (.onnx, .ort)
    #[arg(required = true)]
    files: Vec<std::path::PathBuf>,

    /// Print a line of JSON for each file
    #[arg(long)]
    json: bool,

    /// Run models on this picture or video with all plausible settings (layout, resizing, range, channel order) and print the detections of each
    #[arg(long = "try", value_name = "PICTURE")]
    picture: Option<std::path::PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> u8 {
    gstvx::av::capture_log();
    let mut is_well = true;
    for file in &arguments.files {
        // Outputs name files by URI if their paths are not UTF-8.
        let file = &*file.to_str().map_or(Cow::Borrowed(file.as_path()), path_of);
        let is_model =
            ["onnx", "ort"].iter().any(|known| file.extension().is_some_and(|ext| ext.eq_ignore_ascii_case(known)));
        let name = name_of(file);
        let shown = if is_model {
            model::inspect(file, arguments.picture.as_deref()).map(|found| show(&name, arguments.json, &found))
        } else {
            media::inspect(&name).map(|found| {
                is_well &= found.complete;
                show(&name, arguments.json, &found);
            })
        };
        if let Err(reason) = shown {
            is_well = false;
            // Some messages begin with the file's name themselves.
            let prefix = format!("{name}: ");
            print_error!("vx: {prefix}{}", reason.strip_prefix(&prefix).unwrap_or(&reason));
        }
    }
    if is_well { crate::SUCCESS } else { crate::FAILURE }
}

fn show(name: &str, json: bool, found: &(impl serde::Serialize + std::fmt::Display)) {
    if json {
        match serde_json::to_string(found) {
            Ok(line) => show_bytes(format!("{line}\n").as_bytes()),
            Err(error) => print_error!("vx: {name}: {error}"),
        }
    } else {
        print_line!("{}\n{found}", printable(name));
    }
}
