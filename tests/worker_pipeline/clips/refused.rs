//! Films that are refused, each by its word.

use super::{Clip, Step};
use crate::asked::Asked;

/// A film that is refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// The film.
    pub clip: Clip,
    /// Path of the result.
    pub to: &'static str,
    /// What the tenant asks for.
    pub asked: Asked,
    /// The word of the contract.
    pub word: &'static str,
    /// Fewest pictures with which it is what it is.
    pub least: u32,
}

const fn refused(word: &'static str, to: &'static str, clip: Clip) -> Refused {
    Refused { clip, to, asked: Asked::PLAIN, word, least: 1 }
}

const fn strictly(word: &'static str, to: &'static str, clip: Clip) -> Refused {
    Refused { asked: Asked { strict: true, ..Asked::PLAIN }, least: 30, ..refused(word, to, clip) }
}

const fn from_two(refused: Refused) -> Refused {
    Refused { least: 2, ..refused }
}

/// Those that the header or the pictures give away.
pub const REFUSED: &[Refused] = &[
    refused(
        "SeveralVideoStreams",
        "out.mkv",
        Clip::new("two-films.mkv", "FILM -map 0 -map 0 -c:v libx264 -pix_fmt yuv420p"),
    ),
    refused(
        "Interlaced",
        "out.mp4",
        Clip::new(
            "fields.mp4",
            "FILM -vf setfield=tff -c:v libx264 -x264-params tff=1 -flags +ildct+ilme -pix_fmt yuv420p",
        )
        .size(128, 96),
    ),
    // A file with one picture is too short to be known for a transport stream.
    Refused {
        least: 12,
        ..refused(
            "Interlaced",
            "out.mkv",
            Clip::new("fields.ts", "FILM -vf setfield=bff -c:v mpeg2video -flags +ildct+ilme -pix_fmt yuv420p")
                .size(128, 96),
        )
    },
    // Cinema pictures on television: two of five are woven of two.
    Refused {
        least: 12,
        ..refused(
            "Interlaced",
            "out.mkv",
            Clip::new(
                "telecine.ts",
                "FILM -vf telecine=pattern=23,setfield=tff -c:v mpeg2video -flags +ildct+ilme -pix_fmt yuv420p",
            )
            .size(128, 96)
            .rate("24000/1001"),
        )
    },
    refused(
        "HighDynamicRange",
        "out.mp4",
        Clip::new(
            "hdr10.mp4",
            "FILM -vf format=yuv420p10le,setparams=color_trc=smpte2084:colorspace=bt2020nc:color_primaries=bt2020 -c:v libx264",
        ),
    ),
    refused(
        "HighDynamicRange",
        "out.mkv",
        Clip::new(
            "hlg.mkv",
            "FILM -vf format=yuv420p10le,setparams=color_trc=arib-std-b67:colorspace=bt2020nc:color_primaries=bt2020 \
             -c:v libx265 -x265-params log-level=error",
        ),
    ),
    refused(
        "HighDynamicRange",
        "out.mp4",
        Clip::new(
            "dolby.mp4",
            "FILM -c:v libx265 -x265-params log-level=error -pix_fmt yuv420p10le -tag:v dvh1 -strict unofficial",
        ),
    ),
    refused(
        "ColourMatrix",
        "out.mkv",
        Clip::new("screen.mkv", "FILM -vf format=yuv444p,setparams=colorspace=ycgco -c:v libx264"),
    ),
    from_two(refused(
        "FormatChanges",
        "out.mkv",
        Clip::new("grows.ts", "FILM -c:v libx264 -pix_fmt yuv420p").then(&[Step::Append(
            "FILM -vf scale=160:96 -c:v libx264 -pix_fmt yuv420p -output_ts_offset 20",
        )]),
    )),
    from_two(refused(
        "FormatChanges",
        "out.mkv",
        Clip::new("gets-deeper.ts", "FILM -c:v libx264 -pix_fmt yuv420p")
            .then(&[Step::Append("FILM -c:v libx264 -pix_fmt yuv422p -output_ts_offset 20")]),
    )),
    refused(
        "Alpha",
        "out.mkv",
        Clip::new("alpha.mkv", "FILM -vf format=bgra,colorchannelmixer=aa=0.99 -c:v ffv1 -pix_fmt bgra"),
    ),
    refused(
        "Alpha",
        "out.mov",
        Clip::new(
            "alpha.mov",
            "FILM -vf format=bgra,colorchannelmixer=aa=0.5 -c:v prores_ks -profile:v 4 -pix_fmt yuva444p10le",
        ),
    ),
    refused(
        "Alpha",
        "out.mkv",
        Clip::new("alpha.webm", "FILM -vf format=yuva420p -c:v libvpx-vp9 -cpu-used 8 -auto-alt-ref 0"),
    ),
    // One corner is clear.
    refused(
        "Alpha",
        "out.mp4",
        Clip::new(
            "alpha.gif",
            "FILM -vf format=bgra,drawbox=w=9:h=9:c=black@0:t=fill:replace=1,split[a][b];\
             [a]palettegen=reserve_transparent=1[p];[b][p]paletteuse=alpha_threshold=128 -gifflags -transdiff -c:v gif",
        ),
    ),
    from_two(refused(
        "BrokenTimes",
        "out.mkv",
        Clip::new(
            "at-once.mkv",
            "FILM -vf settb=1/12800,setpts=N*512-eq(mod(N\\,3)\\,1)*510 -fps_mode passthrough -enc_time_base 1/12800 -c:v libx264 \
             -bf 0 -pix_fmt yuv420p",
        ),
    )),
    strictly(
        "Truncated",
        "out.mp4",
        Clip::new("cut-short.mp4", "FILM -c:v libx264 -g 12 -pix_fmt yuv420p -movflags faststart")
            // Less than a second may be sound that is longer than the film.
            .frames(100)
            .then(&[Step::Keep(60)]),
    ),
    strictly(
        "Damaged",
        "out.mkv",
        Clip::new("damaged.mkv", "FILM TONE -c:v libx264 -g 6 -crf 8 -pix_fmt yuv420p -c:a flac")
            .then(&[Step::Damage(50)]),
    ),
    refused(
        "StreamsDoNotFit",
        "out.mp4",
        Clip::new(
            "font.mkv",
            "FILM -c:v libx264 -pix_fmt yuv420p -attach FONT -metadata:s:t mimetype=font/ttf -metadata:s:t filename=font.ttf",
        ),
    ),
    refused(
        "StreamsDoNotFit",
        "out.mov",
        Clip::new("opus.mkv", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a libopus"),
    ),
    refused(
        "StreamsDoNotFit",
        "out.mp4",
        Clip::new("vorbis.mkv", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a libvorbis"),
    ),
];

/// Files that only name others: ending, content.
pub const PLAYLISTS: &[(&str, &str)] = &[
    ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
    ("list.mp4", "\u{feff}#EXTM3U\nhttp://127.0.0.1/film.ts\n"),
    ("script.mkv", "ffconcat version 1.0\nfile film.mp4\n"),
    ("stream.mpd", "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"></MPD>\n"),
    ("radio.pls", "[playlist]\nFile1=http://127.0.0.1/film\n"),
];
