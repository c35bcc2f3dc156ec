// SPDX-License-Identifier: MIT OR Apache-2.0
//! The five points of a face: eyes, nose and corners of the mouth.

use crate::detect::layouts::task::Task;

/// Values of the five points: x and y of each.
pub(crate) const POINT_VALUES: usize = 10;

/// The task of face detectors that return five points.
pub(crate) const FACE_TASK: Task = Task::Pose { points: 5, values: 2 };
