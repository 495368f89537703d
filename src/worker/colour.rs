//! What the numbers of a picture mean: matrix, range, primaries, transfer; from the tags of the source or, where it
//! says nothing, deduced from its height as players do.

use serde::{Deserialize, Serialize};

/// Colour of the source, in ffmpeg's names of stream tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Colour {
    /// Matrix; `gbr` if the source is RGB.
    pub matrix: String,
    /// `tv` or `pc`.
    pub range: String,
    /// Primaries.
    pub primaries: String,
    /// Transfer.
    pub transfer: String,
    /// Names of what no tag says.
    #[serde(default)]
    pub unsaid: Vec<String>,
}

/// What ffprobe said of a stream; `None` where it said nothing or `unknown`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tags<'a> {
    /// `color_space`
    pub matrix: Option<&'a str>,
    /// `color_range`
    pub range: Option<&'a str>,
    /// `color_primaries`
    pub primaries: Option<&'a str>,
    /// `color_transfer`
    pub transfer: Option<&'a str>,
}

impl Colour {
    /// Colour of a source of that height and pixel format; `None` if its matrix cannot be converted.
    ///
    /// A matrix that is not said is that of the height, but for the primaries of a wide gamut; primaries and transfer that
    /// are not said are those of the matrix. RGB without tags is that of screens.
    pub fn of(tags: Tags<'_>, height: u32, pixel_format: &str) -> Option<Self> {
        let rgb = tags.matrix == Some("gbr") || is_rgb(pixel_format);
        let matrix = match (rgb, tags.matrix) {
            (true, _) => "gbr",
            (false, Some(matrix)) => matrix,
            (false, None) if tags.primaries == Some("bt2020") => "bt2020nc",
            (false, None) => by_height(height),
        };
        if !rgb && scale_name(matrix).is_none() {
            return None;
        }
        let (primaries, transfer) = with_matrix(matrix);
        let said = [
            ("matrix", rgb || tags.matrix.is_some()),
            ("primaries", tags.primaries.is_some()),
            ("transfer", tags.transfer.is_some()),
        ];
        let full = tags.range == Some("pc") || pixel_format.starts_with("yuvj") || rgb;
        Some(Self {
            matrix: matrix.to_owned(),
            range: if full { "pc" } else { "tv" }.to_owned(),
            primaries: tags.primaries.unwrap_or(primaries).to_owned(),
            transfer: tags.transfer.unwrap_or(transfer).to_owned(),
            unsaid: said.into_iter().filter(|(_, said)| !said).map(|(name, _)| name.to_owned()).collect(),
        })
    }

    /// What was deduced, for people; `None` if all was said.
    pub fn warning(&self) -> Option<String> {
        let taken: Vec<&str> = self
            .unsaid
            .iter()
            .map(|name| match name.as_str() {
                "matrix" => self.matrix.as_str(),
                "primaries" => self.primaries.as_str(),
                _ => self.transfer.as_str(),
            })
            .collect();
        (!taken.is_empty())
            .then(|| format!("no colour tags for {}: taken for {}", self.unsaid.join(", "), taken.join(", ")))
    }

    /// Arguments of the `scale` filter that say how the source is read; none for RGB.
    pub fn read_by_scale(&self) -> String {
        scale_name(&self.matrix)
            .map_or_else(String::new, |matrix| format!("in_color_matrix={matrix}:in_range={}", self.range))
    }

    /// The colour that the result is written in: the source's, or that of the result's height for an RGB source.
    pub fn of_result(&self, height: u32) -> Self {
        if self.matrix != "gbr" {
            return self.clone();
        }
        let matrix = if height >= 720 { "bt709" } else { "smpte170m" };
        Self { matrix: matrix.to_owned(), range: "tv".to_owned(), ..self.clone() }
    }

    /// Name of the transfer for the encoder's option, which has older names than the filters.
    pub fn transfer_option(&self) -> &str {
        match self.transfer.as_str() {
            "bt470bg" => "gamma28",
            "bt470m" => "gamma22",
            other => other,
        }
    }
}

/// The matrix that players take for a height.
fn by_height(height: u32) -> &'static str {
    match height {
        720.. => "bt709",
        576 | 288 => "bt470bg",
        _ => "smpte170m",
    }
}

/// Primaries and transfer of the standard that a matrix belongs to (ITU-T H.273, tables 2 to 4).
fn with_matrix(matrix: &str) -> (&'static str, &'static str) {
    match matrix {
        "bt470bg" => ("bt470bg", "bt470bg"),
        "smpte170m" => ("smpte170m", "smpte170m"),
        "smpte240m" => ("smpte240m", "smpte240m"),
        "fcc" => ("bt470m", "bt470m"),
        "bt2020nc" => ("bt2020", "bt2020-10"),
        _ => ("bt709", "bt709"),
    }
}

/// Matrices that are converted exactly, each with the `scale` filter's name of it.
pub const MATRICES: [(&str, &str); 6] = [
    ("bt709", "bt709"),
    ("fcc", "fcc"),
    ("bt470bg", "bt601"),
    ("smpte170m", "bt601"),
    ("smpte240m", "smpte240m"),
    ("bt2020nc", "bt2020"),
];

/// The `scale` filter's name of a matrix; `None` if it has none.
pub fn scale_name(matrix: &str) -> Option<&'static str> {
    MATRICES.iter().find(|(known, _)| *known == matrix).map(|(_, name)| *name)
}

fn is_rgb(pixel_format: &str) -> bool {
    ["rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8", "x2rgb", "x2bgr"]
        .iter()
        .any(|prefix| pixel_format.starts_with(prefix))
}

/// Whether a pixel format has an alpha channel.
pub fn has_alpha(pixel_format: &str) -> bool {
    ["yuva", "rgba", "argb", "bgra", "abgr", "gbrap", "ya8", "ya16", "ayuv", "vuya", "pal8"]
        .iter()
        .any(|prefix| pixel_format.starts_with(prefix))
}

/// Bits per component of a pixel format, as far as its name tells.
pub fn bits(pixel_format: &str) -> u32 {
    if ["rgb48", "bgr48", "rgba64", "bgra64"].iter().any(|deep| pixel_format.starts_with(deep)) {
        return 16;
    }
    ["9", "10", "12", "14", "16"]
        .iter()
        .filter(|bits| {
            ["le", "be"].iter().any(|order| {
                pixel_format.ends_with(&format!("p{bits}{order}"))
                    || pixel_format == format!("p0{bits}{order}")
                    || pixel_format == format!("gray{bits}{order}")
            })
        })
        .find_map(|bits| bits.parse().ok())
        .unwrap_or(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untagged_films_are_read_by_their_height() {
        for (height, matrix) in
            [(1080, "bt709"), (720, "bt709"), (576, "bt470bg"), (288, "bt470bg"), (480, "smpte170m")]
        {
            let colour = Colour::of(Tags::default(), height, "yuv420p").unwrap();
            assert_eq!(
                (colour.matrix.as_str(), colour.range.as_str(), colour.unsaid.len()),
                (matrix, "tv", 3)
            );
        }
        let pal = Colour::of(Tags::default(), 576, "yuv420p").unwrap();
        assert_eq!((pal.transfer.as_str(), pal.transfer_option()), ("bt470bg", "gamma28"));
    }

    #[test]
    fn tags_stand_above_deduction() {
        let tags = Tags { matrix: Some("bt709"), range: Some("pc"), ..Tags::default() };
        let colour = Colour::of(tags, 240, "yuv420p").unwrap();
        assert_eq!(colour.read_by_scale(), "in_color_matrix=bt709:in_range=pc");
        assert_eq!(
            colour.warning().unwrap(),
            "no colour tags for primaries, transfer: taken for bt709, bt709"
        );
        assert_eq!(Colour::of(Tags::default(), 240, "yuvj420p").unwrap().range, "pc");
        assert_eq!(Colour::of(Tags { matrix: Some("ictcp"), ..tags }, 1080, "yuv420p"), None);
    }

    #[test]
    fn what_is_not_said_is_of_the_same_standard_as_what_is() {
        let taken = |tags: Tags<'_>| {
            let colour = Colour::of(tags, 240, "yuv420p").unwrap();
            [colour.matrix, colour.primaries, colour.transfer]
        };
        let pal = Tags { matrix: Some("bt470bg"), ..Tags::default() };
        assert_eq!(taken(pal), ["bt470bg"; 3]);
        let wide = Tags { primaries: Some("bt2020"), ..Tags::default() };
        assert_eq!(taken(wide), ["bt2020nc", "bt2020", "bt2020-10"]);
        let said = Tags { primaries: Some("bt709"), transfer: Some("bt709"), ..Tags::default() };
        assert_eq!(taken(said), ["smpte170m", "bt709", "bt709"]);
        let all = Tags { matrix: Some("bt709"), ..said };
        assert_eq!(Colour::of(all, 240, "yuv420p").unwrap().warning(), None);
    }

    #[test]
    fn rgb_sources_become_the_matrix_of_the_result() {
        let colour = Colour::of(Tags::default(), 360, "bgr0").unwrap();
        assert_eq!((colour.matrix.as_str(), colour.read_by_scale().as_str()), ("gbr", ""));
        assert_eq!(
            (colour.of_result(1440).matrix, colour.of_result(480).range),
            ("bt709".into(), "tv".into())
        );
        assert_eq!(
            colour.warning().unwrap(),
            "no colour tags for primaries, transfer: taken for bt709, bt709"
        );
    }

    #[test]
    fn pixel_formats_tell_alpha_and_depth() {
        for (format, alpha, depth) in [
            ("yuv420p", false, 8),
            ("yuv420p10le", false, 10),
            ("yuva444p12le", true, 12),
            ("p010le", false, 10),
            ("bgra", true, 8),
            ("gray", false, 8),
            ("rgb48le", false, 16),
            ("bgra64be", true, 16),
            ("gbrp10le", false, 10),
        ] {
            assert_eq!((has_alpha(format), bits(format)), (alpha, depth), "{format}");
        }
    }
}
