// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pixels as JPEG. Knows no file and no frame. Any thread.

/// Returns rows of `row_len` bytes without the padding behind each.
pub fn without_padding(bytes: &[u8], stride: usize, row_len: usize, rows: usize) -> Vec<u8> {
    bytes.chunks(stride.max(1)).take(rows).flat_map(|row| &row[..row_len.min(row.len())]).copied().collect()
}

/// Encodes rows of red, green and blue bytes; `quality` is of 100.
///
/// # Errors
/// The picture is too large for JPEG.
pub fn encode(pixels: &[u8], (width, height): (usize, usize), quality: u8) -> Result<Vec<u8>, String> {
    let side =
        |side: usize| u16::try_from(side).map_err(|_| "JPEG has at most 65535 pixels in width and height".to_owned());
    let mut jpeg = Vec::new();
    jpeg_encoder::Encoder::new(&mut jpeg, quality)
        .encode(pixels, side(width)?, side(height)?, jpeg_encoder::ColorType::Rgb)
        .map_err(|error| error.to_string())?;
    Ok(jpeg)
}
