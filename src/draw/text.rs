// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text in pixels: glyphs of a font that is part of the program, and of the system's fonts for characters that it lacks.
//!
//! The built-in font (`fonts/README.md`) has Latin, Greek, Cyrillic and Vietnamese letters. A character without a
//! glyph is drawn as a frame, so that different labels look different. Letters are placed from left to right, without the shaping that
//! Arabic and Indic scripts need.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use ab_glyph::{Font, FontRef, FontVec, Glyph, PxScale, ScaleFont, point};
use parking_lot::Mutex;

use super::coverage::Coverage;
use super::rectangle::Rectangle;

static BUILT_IN: &[u8] = include_bytes!("fonts/DejaVuSans-Bold-subset.ttf");

static FONTS: LazyLock<Fonts> =
    LazyLock::new(|| Fonts { built_in: FontRef::try_from_slice(BUILT_IN).ok(), system: Mutex::default() });

/// Width of the frame that stands for a character without a glyph, as a share of the text's height.
const FRAME_WIDTH: f32 = 0.6;

struct Fonts {
    /// Always present: a test reads it.
    built_in: Option<FontRef<'static>>,
    system: Mutex<SystemFonts>,
}

/// Fonts of the system that are in use.
#[derive(Default)]
struct SystemFonts {
    /// Searched when the first character needs one.
    faces: Option<fontdb::Database>,
    loaded: HashMap<fontdb::ID, Arc<FontVec>>,
    by_character: HashMap<char, Option<Arc<FontVec>>>,
}

/// Most characters for which fonts are searched, which takes long: labels are few, but come from the model, which is untrusted.
const MAX_REMEMBERED: usize = 10_000;

impl SystemFonts {
    /// Finds a font with a glyph for `character`.
    fn font_for(&mut self, character: char) -> Option<Arc<FontVec>> {
        if let Some(known) = self.by_character.get(&character) {
            return known.clone();
        }
        if self.by_character.len() >= MAX_REMEMBERED {
            return None;
        }
        let found = self.find(character);
        self.by_character.insert(character, found.clone());
        found
    }

    fn find(&mut self, character: char) -> Option<Arc<FontVec>> {
        if let Some(font) = self.loaded.values().find(|font| has_outline(&***font, character)) {
            return Some(Arc::clone(font));
        }
        let faces = self.faces.get_or_insert_with(|| {
            let mut faces = fontdb::Database::new();
            faces.load_system_fonts();
            faces
        });
        // Upright bold sans serif first, as the built-in font is; names decide the rest, so that it is always the same font.
        let mut order: Vec<&fontdb::FaceInfo> = faces.faces().collect();
        order.sort_by_cached_key(|face| {
            let is_sans = face.families.iter().any(|(name, _)| name.contains("Sans") || name.contains("Gothic"));
            (!is_sans, face.style != fontdb::Style::Normal, face.weight.0.abs_diff(700), face.post_script_name.clone())
        });
        let id = order.into_iter().find_map(|face| {
            let has = |data: &[u8], index: u32| {
                FontRef::try_from_slice_and_index(data, index).is_ok_and(|font| has_outline(&font, character))
            };
            faces.with_face_data(face.id, has).unwrap_or(false).then_some(face.id)
        })?;
        let load = |data: &[u8], index: u32| FontVec::try_from_vec_and_index(data.to_vec(), index).ok().map(Arc::new);
        let font = faces.with_face_data(id, load).flatten()?;
        self.loaded.insert(id, Arc::clone(&font));
        Some(font)
    }
}

fn has_outline(font: &impl Font, character: char) -> bool {
    let glyph = font.glyph_id(character);
    glyph.0 != 0 && font.outline(glyph).is_some()
}

/// Returns whether a character is invisible: joiners, direction marks, variation selectors.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}')
}

/// What a character is drawn with.
enum Drawn {
    BuiltIn(Glyph),
    System(Arc<FontVec>, Glyph),
    Frame(Rectangle),
    /// A space.
    Nothing,
}

/// A line of text of a certain height, laid out from 0.
pub struct Line {
    drawn: Vec<Drawn>,
    width: f64,
}

impl Line {
    /// Lays out `text`, `height` pixels from the highest to the lowest letter.
    pub fn new(text: &str, height: f64) -> Self {
        let scale = PxScale::from(height as f32);
        let mut pen = 0.0;
        let characters = text.chars().filter(|character| !is_invisible(*character));
        let drawn = characters.map(|character| {
            let built_in = FONTS.built_in.as_ref().filter(|font| font.glyph_id(character).0 != 0);
            if let Some(font) = built_in {
                return Drawn::BuiltIn(glyph(font, character, scale, &mut pen));
            }
            if character.is_whitespace() {
                pen += scale.x / 3.0;
                return Drawn::Nothing;
            }
            // Not within the `if let`: finding a font takes long.
            let system = FONTS.system.lock().font_for(character);
            if let Some(font) = system {
                let glyph = glyph(&*font, character, scale, &mut pen);
                return Drawn::System(font, glyph);
            }
            let (left, width) = (f64::from(pen), f64::from(scale.x * FRAME_WIDTH));
            pen += scale.x * FRAME_WIDTH;
            Drawn::Frame(Rectangle::from([left + width * 0.15, height * 0.15, width * 0.7, height * 0.65]))
        });
        let drawn = drawn.collect();
        Self { drawn, width: f64::from(pen).ceil() }
    }

    /// Returns its width in pixels.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// Covers its letters, with its upper left corner at `left`, `top`.
    pub fn cover(&self, coverage: &mut Coverage, left: f64, top: f64) {
        for drawn in &self.drawn {
            let outlined = match drawn {
                Drawn::BuiltIn(glyph) => FONTS.built_in.as_ref().and_then(|font| font.outline_glyph(glyph.clone())),
                Drawn::System(font, glyph) => font.outline_glyph(glyph.clone()),
                Drawn::Frame(Rectangle { left: from, top: upper, right, bottom }) => {
                    let frame =
                        Rectangle { left: left + from, top: top + upper, right: left + right, bottom: top + bottom };
                    coverage.frame(frame, ((right - from) / 8.0).max(1.0));
                    None
                }
                Drawn::Nothing => None,
            };
            if let Some(outlined) = outlined {
                let bounds = outlined.px_bounds();
                let (x, y) = (left.round() as i64 + bounds.min.x as i64, top.round() as i64 + bounds.min.y as i64);
                outlined.draw(|column, row, share| coverage.cover(x + i64::from(column), y + i64::from(row), share));
            }
        }
    }
}

/// Returns the glyph of a character at the current position, and advances that.
fn glyph(font: &impl Font, character: char, scale: PxScale, pen: &mut f32) -> Glyph {
    let scaled = font.as_scaled(scale);
    let mut glyph = scaled.scaled_glyph(character);
    glyph.position = point(*pen, scaled.ascent());
    *pen += scaled.h_advance(glyph.id);
    glyph
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::super::coverage::Shares;
    use super::*;

    /// Returns the pixels that a text covers, of 300 x 40.
    fn painted(text: &str) -> Vec<bool> {
        let mut coverage = Coverage::new(300, 40);
        Line::new(text, 32.0).cover(&mut coverage, 2.0, 2.0);
        let mut pixels = vec![false; 300 * 40];
        let mut shares = Shares::default();
        coverage.drain(|tile| {
            shares.of_tile(tile, (0, 0), 1.0);
            for (row, line) in shares.lines() {
                (0..line.len())
                    .for_each(|column| pixels[(tile.top + row) * 300 + tile.left + column] = line[column] > 0);
            }
        });
        pixels
    }

    #[test]
    fn the_built_in_font_has_the_letters_of_europe_and_vietnam() {
        let font = FONTS.built_in.as_ref().unwrap();
        let missing: String =
            "Straße Łódź Ελλάδα собака ďáblík çiğ Việt €…".chars().filter(|c| font.glyph_id(*c).0 == 0).collect();
        assert_eq!(missing, "");
        assert_ne!(painted("собака"), painted("кошка"));
    }

    #[test]
    fn what_no_font_has_is_a_frame_and_never_nothing() {
        // Not a character, so in no font; a control character.
        for text in ["\u{10ffff}", "\u{1b}"] {
            let line = Line::new(text, 32.0);
            assert!(matches!(line.drawn[..], [Drawn::Frame(_)]), "{text:?}");
            assert!(painted(text).contains(&true) && line.width() > 0.0);
        }
        // Whatever fonts the system has.
        assert!(painted("犬").contains(&true));
        assert!(Line::new("a\u{200d}b", 32.0).drawn.len() == 2);
    }

    #[test]
    fn text_is_as_wide_as_it_says() {
        let pixels = painted("Wide label 0.97");
        let width = Line::new("Wide label 0.97", 32.0).width() as usize;
        let last = (0..300).rev().find(|x| (0..40).any(|y| pixels[y * 300 + x])).unwrap();
        assert!(last <= width + 2 && last + 8 >= width, "{last} of {width}");
    }

    #[test]
    fn fonts_are_searched_for_a_limited_number_of_characters() {
        let mut fonts = SystemFonts::default();
        let others = ('\u{20000}'..).take(MAX_REMEMBERED - 1).map(|character| (character, None));
        fonts.by_character.extend(others);
        fonts.font_for('犬');
        assert!(fonts.faces.is_some() && fonts.by_character.len() == MAX_REMEMBERED);
        fonts.faces = None;
        assert!(fonts.font_for('猫').is_none() && fonts.faces.is_none());
        assert_eq!(fonts.by_character.len(), MAX_REMEMBERED);
    }
}
