// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of detector families, one file each. A new family is one file and one line in [`FAMILIES`], and one more in
//! [`selectable_layouts`] if users can select it.

mod anchors_raw;
mod classes;
mod deepstream;
mod detr;
mod distances;
mod end_to_end;
mod fastestdet;
mod flat;
mod mmdeploy;
mod paddle;
mod per_class;
mod retinaface;
mod rtdetr;
mod scrfd;
mod separate;
mod tensorflow;
mod ultraface;
mod v5;
mod v5_face;
mod v8;
mod v8_raw;
mod yolov3;
mod yolov4;
mod yolox;
mod yunet;

use super::Recognition;
use super::evidence::Evidence;
use crate::detect::error::Unsupported;

/// The families in the order in which they are tried: those that names and metadata identify before those that shapes
/// identify, and decoded outputs before undecoded ones.
const FAMILIES: &[Family] = &[
    classes::FAMILY,
    tensorflow::FAMILY,
    yolov4::FAMILY,
    yolov3::FAMILY,
    retinaface::FAMILY,
    ultraface::FAMILY,
    scrfd::FAMILY,
    yunet::FAMILY,
    flat::FAMILY,
    paddle::FAMILY,
    distances::FAMILY,
    mmdeploy::FAMILY,
    detr::FAMILY,
    separate::FAMILY,
    per_class::FAMILY,
    end_to_end::FAMILY,
    rtdetr::FAMILY,
    deepstream::FAMILY,
    v5_face::FAMILY,
    yolox::FAMILY,
    v8::FAMILY,
    v5::FAMILY,
    v8::TRANSPOSED,
    fastestdet::FAMILY,
    v8_raw::FAMILY,
    anchors_raw::FAMILY,
];

/// Passes the layouts that a user can select to the macro `$receive`: the variant of [`ModelLayout`], the value of the property
/// `model-layout`, and a description of the output and its models. The property's enum is generated from the same list. Its
/// numbers are those of the list: append new layouts at the end.
macro_rules! selectable_layouts {
    ($receive:ident) => {
        $receive! {
            V8, "v8", "[1, 4 + classes, cells]: YOLOv8, 9, 11, 12";
            V8Transposed, "v8-transposed", "[1, cells, 4 + classes]: YOLOv8 with transposed output";
            V5, "v5", "[1, cells, 5 + classes]: YOLOv5, 6, 7";
            Yolox, "yolox", "[1, cells, 5 + classes], not decoded: YOLOX";
            EndToEnd, "end-to-end", "[1, N, 6], after NMS: YOLOv10, YOLO26";
            DeepStream, "deepstream", "[1, cells, 6], before NMS: DeepStream-Yolo";
            RtDetr, "rtdetr", "[1, N, 4 + classes], final boxes in normalised coordinates: RT-DETR";
            V5Raw, "v5-raw", "Three feature maps, not decoded, with the anchors of YOLOv5 and YOLOv7-tiny";
            V7Raw, "v7-raw", "Three feature maps, not decoded, with the anchors of YOLOv7";
        }
    };
}
pub(crate) use selectable_layouts;

macro_rules! model_layout {
    ($($variant:ident, $name:literal, $description:literal;)+) => {
        /// Output layouts that a user can select if a model's own shapes and metadata are ambiguous.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ModelLayout {
            $(#[doc = $description] $variant,)+
        }

        impl ModelLayout {
            /// Every selectable layout.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the value of the property `model-layout` that selects it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Returns the shape of the output and the models that have it, in words.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self {
                    $(Self::$variant => $description,)+
                }
            }
        }
    };
}
selectable_layouts!(model_layout);

impl std::fmt::Display for ModelLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl ModelLayout {
    /// Returns the layout that one of these identifiers of GStreamer's tensor decoders names.
    pub(crate) fn from_tensor_ids(ids: &[String]) -> Option<Self> {
        ids.iter().find_map(|id| {
            let family = FAMILIES.iter().find(|family| family.tensor_id.is_some_and(|known| id.contains(known)))?;
            family.selected_by.first().copied()
        })
    }
}

/// A detector family: how its models are recognised, and what selects it.
pub(super) struct Family {
    recognise: fn(&Evidence<'_>) -> Recognition,
    /// The values of `model-layout` that select this family.
    selected_by: &'static [ModelLayout],
    /// Whether it is tried even if another layout is selected.
    ignores_selection: bool,
    /// Part of the identifiers that GStreamer gives to tensors of this family.
    tensor_id: Option<&'static str>,
}

impl Family {
    /// Creates a family that is never selected by the user.
    const fn new(recognise: fn(&Evidence<'_>) -> Recognition) -> Self {
        Self { recognise, selected_by: &[], ignores_selection: false, tensor_id: None }
    }

    const fn selected_by(self, layouts: &'static [ModelLayout]) -> Self {
        Self { selected_by: layouts, ..self }
    }

    const fn ignoring_selection(self) -> Self {
        Self { ignores_selection: true, ..self }
    }

    const fn with_tensor_id(self, tensor_id: &'static str) -> Self {
        Self { tensor_id: Some(tensor_id), ..self }
    }

    fn is_candidate(&self, selected: Option<ModelLayout>) -> bool {
        self.ignores_selection || selected.is_none_or(|layout| self.selected_by.contains(&layout))
    }
}

/// Tries the families in turn; if the user selected a layout, only its family. Returns [`Recognition::NoMatch`] if none
/// matches.
pub(super) fn try_all(evidence: &Evidence<'_>) -> Recognition {
    for family in FAMILIES.iter().filter(|family| family.is_candidate(evidence.selected)) {
        match (family.recognise)(evidence) {
            Recognition::NoMatch => {}
            Recognition::NeedsTrialRun if evidence.has_trial() => {}
            decision => return decision,
        }
    }
    Recognition::NoMatch
}

/// Returns why no family matches, and what to do.
pub(super) fn no_match(evidence: &Evidence<'_>) -> Unsupported {
    let boxes = evidence.box_output();
    if let Some(layout) = evidence.selected {
        let shape = boxes.map_or_else(
            || "none of its outputs has three dimensions".to_owned(),
            |boxes| format!("its output is [1, {}, {}]", boxes.rows, boxes.columns),
        );
        let cells = evidence.cells();
        return Unsupported::new(
            format!(
                "it does not fit the layout {layout} ({}; this input has {cells} cells): {shape}",
                layout.description()
            ),
            "Set another model-layout, or auto",
        );
    }
    let known: Vec<_> = ModelLayout::ALL.iter().map(|layout| layout.description()).collect();
    let known = format!(
        "Supported are {}; and boxes, scores and classes as separate outputs. Export the model again as a detector with one of \
         these layouts",
        known.join("; ")
    );
    if let Some(boxes) = boxes {
        let (rows, columns) = (boxes.rows, boxes.columns);
        let nearest = if rows < columns { ModelLayout::V8 } else { ModelLayout::V5 };
        return Unsupported::new(
            format!("its output [1, {rows}, {columns}] does not match any known layout"),
            format!("The nearest layout is {}. {known}", nearest.description()),
        );
    }
    if evidence.outputs.iter().filter(|output| output.shape.len() == 3).count() > 1 {
        return Unsupported::new(
            "several of its outputs could hold boxes",
            format!("Export it with one output. {known}"),
        );
    }
    if let Some(boxes) = evidence.outputs.iter().find(|output| output.is_box_list()) {
        return Unsupported::new(
            format!("its output {} holds boxes, but no output holds their scores", boxes.name),
            "The nearest layout is that of the DETR family: boxes [1, N, 4], scores [1, N] and labels [1, N]",
        );
    }
    Unsupported::new(
        "none of its outputs has the three dimensions of a list of boxes",
        "An output with two dimensions belongs to an image classifier, one with four to a segmentation model or an undecoded head; \
         use a detector",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_selectable_layout_selects_exactly_one_family() {
        for layout in ModelLayout::ALL {
            let families = FAMILIES.iter().filter(|family| family.selected_by.contains(layout));
            assert_eq!(families.count(), 1, "{layout}");
        }
    }

    #[test]
    fn tensor_ids_select_layouts() {
        let layout = |id: &str| ModelLayout::from_tensor_ids(&["other".to_owned(), id.to_owned()]);
        assert_eq!(layout("yolo-v8-out"), Some(ModelLayout::V8));
        assert_eq!(layout("yolo-v10-out"), Some(ModelLayout::EndToEnd));
        assert_eq!(layout("ssd"), None);
    }
}
