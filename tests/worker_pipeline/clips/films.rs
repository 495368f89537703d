//! Films that must come out as they went in, only larger.

use super::{Clip, Step};
use crate::asked::Asked;

/// A film and what is asked for it.
#[derive(Clone, Copy, Debug)]
pub struct Film {
    /// The film.
    pub clip: Clip,
    /// Path of the result.
    pub to: &'static str,
    /// What the tenant asks for.
    pub asked: Asked,
    /// Which of its pictures a reader sees.
    pub shown: Shown,
    /// Fewest pictures with which it is what it is.
    pub least: u32,
    /// Whether it stands for its kind in the short run.
    pub in_short_run: bool,
}

/// Which pictures of a file are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All that are to be shown.
    All,
    /// Some, in order, not all.
    Some,
}

/// A film of which all is to be had and nothing special asked.
const fn film(to: &'static str, clip: Clip) -> Film {
    Film { clip, to, asked: Asked::PLAIN, shown: Shown::All, least: 1, in_short_run: false }
}

impl Film {
    const fn stands_for_its_kind(self) -> Self {
        Self { in_short_run: true, ..self }
    }

    const fn asked(self, asked: Asked) -> Self {
        Self { asked, ..self }
    }

    const fn some(self) -> Self {
        Self { shown: Shown::Some, least: 30, ..self }
    }
}

/// Rates, times, orders, beginnings and ends.
pub const TIMES: &[Film] = &[
    film(
        "out.mp4",
        Clip::new("constant.mp4", "FILM TONE -c:v libx264 -g 12 -bf 3 -pix_fmt yuv420p -c:a aac"),
    ),
    film(
        "out.mp4",
        Clip::new("ntsc.mp4", "FILM TONE -c:v libx264 -bf 2 -pix_fmt yuv420p -c:a aac").rate("30000/1001"),
    ),
    film(
        "out.mkv",
        Clip::new("ntsc.mkv", "FILM TONE -c:v libx264 -bf 2 -pix_fmt yuv420p -c:a flac").rate("30000/1001"),
    ),
    film(
        "out.mp4",
        Clip::new("cinema.mp4", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a aac").rate("24000/1001"),
    ),
    film("out.mov", Clip::new("fast.mov", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a aac").rate("120")),
    film(
        "out.mp4",
        Clip::new(
            "variable.mp4",
            "FILM TONE -vf settb=1/90000,setpts=N*3600+mod(N*N*731\\,2900)-gt(mod(N\\,5)\\,3)*900 -fps_mode passthrough \
             -enc_time_base 1/90000 -c:v libx264 -g 12 -pix_fmt yuv420p -video_track_timescale 90000 \
             -bsf:v setts=pts=PTS:dts=DTS:duration=3600 -c:a aac",
        ),
    )
    .stands_for_its_kind(),
    film(
        "out.mkv",
        Clip::new(
            "pairs.mkv",
            "FILM TONE -vf settb=1/1000,setpts=floor(N/2)*80+mod(N\\,2) -fps_mode passthrough -enc_time_base 1/1000 \
             -c:v libx264 -g 12 -pix_fmt yuv420p -c:a libopus",
        ),
    )
    .stands_for_its_kind(),
    film(
        "out.mp4",
        Clip::new(
            "pauses.mp4",
            "FILM TONE+3 -vf settb=1/12800,setpts=512*(N+20*gte(N\\,10)+30*gte(N\\,28)) -fps_mode passthrough \
             -enc_time_base 1/12800 -c:v libx264 -bf 0 -pix_fmt yuv420p \
             -bsf:v setts=pts=PTS:dts=DTS:duration=512 -c:a aac",
        ),
    ),
    film(
        "out.mkv",
        Clip::new(
            "open-groups.mkv",
            "FILM TONE -c:v libx264 -x264-params open_gop=1:keyint=9:min-keyint=9:bframes=3:scenecut=0 -pix_fmt yuv420p -c:a ac3",
        ),
    ),
    film(
        "out.mp4",
        Clip::new(
            "open-groups.mp4",
            "FILM TONE -c:v libx265 -x265-params log-level=error:open-gop=1:keyint=9:min-keyint=9:bframes=3:scenecut=0 \
             -tag:v hvc1 -pix_fmt yuv420p -c:a aac",
        ),
    )
    .stands_for_its_kind(),
    film(
        "out.mp4",
        Clip::new(
            "refresh.mp4",
            "FILM TONE -c:v libx264 -x264-params intra-refresh=1:keyint=12 -pix_fmt yuv420p -c:a aac",
        ),
    ),
    film(
        "out.mp4",
        Clip::new("one-key.mp4", "FILM TONE -c:v libx264 -g 9999 -sc_threshold 0 -pix_fmt yuv420p -c:a aac"),
    ),
    film(
        "out.mp4",
        Clip::new("edit-list.mp4", "FILM TONE -c:v libx264 -g 20 -bf 2 -pix_fmt yuv420p -c:a aac")
            .hidden(10)
            .then(&[Step::Again("-ss START -i IN -map 0 -c copy")]),
    )
    .stands_for_its_kind(),
    film(
        "out.mp4",
        Clip::new(
            "fragments.mp4",
            "FILM TONE -c:v libx264 -g 12 -bf 2 -pix_fmt yuv420p -c:a aac -movflags frag_keyframe+empty_moov",
        ),
    ),
    film(
        "out.mp4",
        Clip::new(
            "no-edit-list.mp4",
            "FILM TONE -c:v libx264 -bf 3 -pix_fmt yuv420p -c:a aac -use_editlist 0",
        ),
    ),
    film(
        "out.mp4",
        Clip::new(
            "negative.mp4",
            "FILM TONE -c:v libx264 -bf 3 -pix_fmt yuv420p -c:a aac -movflags negative_cts_offsets",
        ),
    ),
    film(
        "out.mkv",
        // Its clock runs over within the film, so that readers count the time before that as negative.
        Clip::new(
            "overrun.ts",
            "FILM TONE -c:v libx264 -g 12 -bf 2 -pix_fmt yuv420p -c:a ac3 -output_ts_offset 95443",
        ),
    ),
    film(
        "out.mkv",
        Clip::new(
            "starts-late.mkv",
            "FILM TONE -c:v libx264 -bf 2 -pix_fmt yuv420p -c:a flac -output_ts_offset 5",
        ),
    ),
    film(
        "out.mp4",
        Clip::new(
            "late-pictures.mp4",
            "-itsoffset 0.31 FILM TONE+0.5 -c:v libx264 -pix_fmt yuv420p -c:a aac",
        ),
    ),
    film(
        "out.mkv",
        Clip::new(
            "late-pictures.mkv",
            "-itsoffset 0.31 FILM TONE+0.5 -c:v libx264 -pix_fmt yuv420p -c:a flac",
        ),
    )
    .stands_for_its_kind(),
    film(
        "out.mp4",
        Clip::new("late-sound.mp4", "FILM -itsoffset 0.31 TONE -c:v libx264 -pix_fmt yuv420p -c:a aac"),
    ),
    film("out.mp4", Clip::new("long-sound.mp4", "FILM TONE+1.5 -c:v libx264 -pix_fmt yuv420p -c:a aac")),
    film("out.mp4", Clip::new("short-sound.mp4", "FILM TONE-0.7 -c:v libx264 -pix_fmt yuv420p -c:a aac")),
    film("out.mp4", Clip::new("silent.mp4", "FILM -c:v libx264 -pix_fmt yuv420p")),
    Film {
        // Readers are told only here how long it is shown.
        least: 36,
        ..film(
            "out.mp4",
            Clip::new(
                "long-last.mp4",
                "FILM TONE+4 -c:v libx264 -bf 0 -pix_fmt yuv420p -c:a aac \
                 -bsf:v setts=pts=PTS:dts=DTS:duration='if(eq(N\\,35)\\,4/TB\\,DURATION)'",
            ),
        )
    },
];

/// Files and codecs of all kinds.
pub const FILES: &[Film] = &[
    film("out.mkv", Clip::new("h264.ts", "FILM TONE -c:v libx264 -g 12 -bf 2 -pix_fmt yuv420p -c:a aac"))
    .stands_for_its_kind(),
    film(
        "out.mkv",
        Clip::new("hevc.ts", "FILM TONE -c:v libx265 -x265-params log-level=error:keyint=12 -pix_fmt yuv420p -c:a ac3"),
    ),
    film("out.mkv", Clip::new("mpeg2.ts", "FILM TONE -c:v mpeg2video -g 12 -bf 2 -q:v 3 -pix_fmt yuv420p -c:a mp2")),
    film("out.mkv", Clip::new("mpeg2.mpg", "FILM TONE -c:v mpeg2video -g 12 -bf 2 -q:v 3 -pix_fmt yuv420p -c:a mp2")),
    film(
        "out.mkv",
        // As a broadcast that was tuned into: its first pictures hang on one that was sent before.
        Clip::new(
            "tuned-in.ts",
            "FILM TONE -c:v libx264 -x264-params open_gop=1:keyint=9:min-keyint=9:bframes=3:scenecut=0 -pix_fmt yuv420p -c:a ac3",
        )
        .then(&[Step::Lose(20)]),
    )
    .some(),
    film("out.mkv", Clip::new("mpeg4.avi", "FILM TONE -c:v mpeg4 -bf 2 -q:v 3 -c:a mp3")),
    film(
        "out.mkv",
        // Every sixth picture was dropped when it was taken.
        Clip::new(
            "dropped.avi",
            "FILM TONE+0.3 -vf settb=1/25,setpts=N+floor(N/5) -fps_mode passthrough -enc_time_base 1/25 -c:v mpeg4 -q:v 3 -c:a mp3",
        ),
    )
    .stands_for_its_kind(),
    film("out.mkv", Clip::new("h264.flv", "FILM TONE -c:v libx264 -bf 2 -pix_fmt yuv420p -c:a aac")),
    film("out.mkv", Clip::new("wmv.wmv", "FILM TONE -c:v wmv2 -q:v 3 -c:a wmav2")),
    film("out.mkv", Clip::new("mpeg2.mxf", "FILM TONE -c:v mpeg2video -g 12 -bf 0 -q:v 3 -pix_fmt yuv420p -c:a pcm_s16le")),
    film("out.mp4", Clip::new("phone.3gp", "FILM TONE -c:v mpeg4 -q:v 3 -c:a aac")),
    film("out.mkv", Clip::new("vp9.webm", "FILM TONE -c:v libvpx-vp9 -crf 20 -b:v 0 -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 16 -pix_fmt yuv420p -c:a libopus"))
    .stands_for_its_kind(),
    film("out.mkv", Clip::new("vp8.webm", "FILM TONE -c:v libvpx -crf 10 -b:v 2M -pix_fmt yuv420p -c:a libvorbis")),
    film("out.mp4", Clip::new("av1.mp4", "FILM TONE -c:v libsvtav1 -crf 20 -preset 10 -svtav1-params lp=1 -pix_fmt yuv420p -c:a libopus").size(96, 64)),
    film("out.mov", Clip::new("prores.mov", "FILM TONE -c:v prores_ks -profile:v 2 -c:a pcm_s24le")),
    film("out.mov", Clip::new("mjpeg.mov", "FILM TONE -c:v mjpeg -q:v 3 -pix_fmt yuvj420p -c:a pcm_s16le")),
    film("out.mkv", Clip::new("ffv1.mkv", "FILM TONE -c:v ffv1 -level 3 -pix_fmt yuv420p -c:a flac")),
    // Its format has an alpha channel, in which all is opaque.
    film("out.mp4", Clip::new("pictures.gif", "FILM -c:v gif"))
    .stands_for_its_kind(),
    film("out.mkv", Clip::new("cut-short.mkv", "FILM TONE -c:v libx264 -g 12 -pix_fmt yuv420p -c:a flac").then(&[Step::Keep(60)]))
        .some(),
    film(
        "out.mp4",
        Clip::new("cut-short.mp4", "FILM TONE -c:v libx264 -g 12 -pix_fmt yuv420p -c:a aac -movflags faststart")
            .then(&[Step::Keep(60)]),
    )
    .some()
    .stands_for_its_kind(),
    film(
        "out.mkv",
        Clip::new("damaged.mkv", "FILM TONE -c:v libx264 -g 6 -crf 8 -pix_fmt yuv420p -c:a flac").then(&[Step::Damage(50)]),
    )
    .some(),
];

/// Sizes, shapes, depths and colours.
pub const PICTURES: &[Film] = &[
    film("out.mkv", Clip::new("odd-444.mkv", "FILM -c:v libx264 -pix_fmt yuv444p").size(127, 71))
        .stands_for_its_kind(),
    film("out.mkv", Clip::new("odd-420.mkv", "FILM -c:v ffv1 -level 3 -pix_fmt yuv420p").size(127, 71)),
    film("out.mkv", Clip::new("odd-thrice.mkv", "FILM -c:v libx264 -pix_fmt yuv444p").size(193, 129))
        .asked(Asked { scale: 3, ..Asked::PLAIN }),
    film("out.mp4", Clip::new("four-times.mp4", "FILM -c:v libx264 -pix_fmt yuv420p"))
        .asked(Asked { scale: 4, ..Asked::PLAIN }),
    film(
        "out.mp4",
        Clip::new("anamorphic.mp4", "FILM TONE -vf setsar=16/11 -c:v libx264 -pix_fmt yuv420p -c:a aac"),
    ),
    film(
        "out.mkv",
        Clip::new("anamorphic.mkv", "FILM TONE -vf setsar=16/11 -c:v libx264 -pix_fmt yuv420p -c:a aac")
            .then(&[Step::Again("-display_vflip -i IN -map 0 -c copy")]),
    )
    .stands_for_its_kind(),
    film(
        "out.mp4",
        Clip::new("turned.mp4", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a aac")
            .then(&[Step::Again("-display_rotation 90 -i IN -map 0 -c copy")]),
    ),
    film(
        "out.mp4",
        Clip::new("turned-mirrored.mp4", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a aac")
            .then(&[Step::Again("-display_rotation 90 -display_hflip -i IN -map 0 -c copy")]),
    )
    .stands_for_its_kind(),
    film(
        "out.mov",
        Clip::new("mirrored.mov", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a aac")
            .then(&[Step::Again("-display_hflip -i IN -map 0 -c copy")]),
    ),
    film(
        "out.mkv",
        Clip::new("turned-mirrored.mkv", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a flac")
            .then(&[Step::Again("-display_rotation 270 -display_hflip -i IN -map 0 -c copy")]),
    ),
    film(
        "out.mkv",
        Clip::new("upside-down.mp4", "FILM -c:v libx264 -pix_fmt yuv420p")
            .then(&[Step::Again("-display_vflip -i IN -map 0 -c copy")]),
    ),
    film(
        "out.mov",
        Clip::new("upside-down.mov", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a aac")
            .then(&[Step::Again("-display_rotation 180 -i IN -map 0 -c copy")]),
    ),
    film(
        "out.mkv",
        Clip::new("turned.mkv", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a aac")
            .then(&[Step::Again("-display_rotation 270 -i IN -map 0 -c copy")]),
    ),
    film("out.mp4", Clip::new("deep.mp4", "FILM -c:v libx264 -pix_fmt yuv420p10le")),
    film(
        "out.mkv",
        Clip::new("deep.mkv", "FILM -c:v libx265 -x265-params log-level=error -pix_fmt yuv420p10le"),
    )
    .stands_for_its_kind(),
    film("out.mp4", Clip::new("half-colour.mp4", "FILM -c:v libx264 -pix_fmt yuv422p")),
    film("out.mkv", Clip::new("rgb.mkv", "FILM -c:v ffv1 -pix_fmt bgr0")).stands_for_its_kind(),
    film("out.mp4", Clip::new("rgb.mp4", "FILM -c:v libx264rgb -pix_fmt rgb24")),
    film(
        "out.mp4",
        Clip::new(
            "bt709.mp4",
            "FILM -vf scale=out_color_matrix=bt709,format=yuv420p,\
             setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709 -c:v libx264",
        ),
    ),
    film(
        "out.mkv",
        Clip::new(
            "bt601.mkv",
            "FILM -vf scale=out_color_matrix=bt601,format=yuv420p,\
             setparams=range=tv:colorspace=smpte170m:color_primaries=smpte170m:color_trc=smpte170m -c:v libx264",
        ),
    ),
    film(
        "out.mp4",
        Clip::new(
            "pal.mp4",
            "FILM -vf scale=out_color_matrix=bt601,format=yuv420p,\
             setparams=range=tv:colorspace=bt470bg:color_primaries=bt470bg:color_trc=bt709 -c:v libx264",
        ),
    ),
    film(
        "out.mp4",
        Clip::new(
            "full.mp4",
            "FILM -vf scale=out_color_matrix=bt709:out_range=pc,format=yuv420p,\
             setparams=range=pc:colorspace=bt709:color_primaries=bt709:color_trc=bt709 -c:v libx264",
        ),
    ),
    film(
        "out.mkv",
        Clip::new(
            "wide-gamut.mkv",
            "FILM -vf scale=out_color_matrix=bt2020,format=yuv420p10le,\
             setparams=range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc=bt2020-10 -c:v libx264",
        ),
    ),
    film(
        "out.mp4",
        Clip::new("untagged.mp4", "FILM -vf scale=out_color_matrix=bt601 -c:v libx264 -pix_fmt yuv420p"),
    ),
    film(
        "out.mp4",
        Clip::new("untagged-pal.mp4", "FILM -vf scale=out_color_matrix=bt601 -c:v libx264 -pix_fmt yuv420p")
            .size(96, 576)
            .frames(20),
    )
    .stands_for_its_kind(),
    film(
        "out.mp4",
        Clip::new("untagged-720.mp4", "FILM -vf scale=out_color_matrix=bt709 -c:v libx264 -pix_fmt yuv420p")
            .size(96, 720)
            .frames(20),
    ),
];

/// What lies beside the pictures.
pub const STREAMS: &[Film] = &[
    film(
        "out.mp4",
        Clip::new(
            "two-sounds.mp4",
            "FILM TONE TONE -map 0 -map 1 -map 2 -c:v libx264 -pix_fmt yuv420p -c:a:0 aac -c:a:1 ac3 \
             -metadata:s:a:0 language=deu -metadata:s:a:1 language=eng -disposition:a:0 0 -disposition:a:1 default",
        ),
    ),
    film(
        "out.mkv",
        Clip::new(
            "six-sounds.mkv",
            "FILM TONE -map 0 -map 1 -map 1 -map 1 -map 1 -map 1 -map 1 -c:v libx264 -pix_fmt yuv420p -c:a:0 aac \
             -c:a:1 libopus -c:a:2 ac3 -c:a:3 flac -c:a:4 pcm_s16le -c:a:5 mp3 -metadata:s:a:1 title=Commentary \
             -disposition:a:0 0 -disposition:a:1 comment -disposition:a:2 default",
        ),
    )
    .stands_for_its_kind(),
    film("out.mp4", Clip::new("opus.mp4", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a libopus")),
    film("out.mp4", Clip::new("mp3.mp4", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a mp3")),
    film(
        "out.mkv",
        Clip::new(
            "texts.mkv",
            "FILM TONE -i TEXT -map 0 -map 1 -map 2 -map 2 -c:v libx264 -pix_fmt yuv420p -c:a flac -c:s:0 srt -c:s:1 ass \
             -metadata:s:s:0 language=fra -metadata:s:s:1 title=Signs -disposition:s:0 0 -disposition:s:1 forced",
        ),
    )
    .stands_for_its_kind(),
    film(
        "out.mp4",
        Clip::new(
            "text.mp4",
            "FILM TONE -i TEXT -map 0 -map 1 -map 2 -c:v libx264 -pix_fmt yuv420p -c:a aac -c:s mov_text -metadata:s:s language=fra",
        ),
    )
    .stands_for_its_kind(),
    film(
        "out.mkv",
        Clip::new(
            "chapters.mkv",
            "FILM TONE -i CHAPTERS -map 0 -map 1 -map_metadata 2 -c:v libx264 -pix_fmt yuv420p -c:a flac -metadata:s:v language=jpn \
             -metadata:s:v title=Pictures",
        ),
    ),
    film(
        "out.mp4",
        Clip::new("chapters.mp4", "FILM TONE -i CHAPTERS -map 0 -map 1 -map_metadata 2 -c:v libx264 -pix_fmt yuv420p -c:a aac -metadata:s:v language=jpn"),
    )
    .stands_for_its_kind(),
    film(
        "out.mkv",
        Clip::new(
            "font.mkv",
            "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a flac -attach FONT -metadata:s:t mimetype=font/ttf \
             -metadata:s:t filename=font.ttf",
        ),
    ),
    film(
        "out.mp4",
        Clip::new(
            "cover.mp4",
            "FILM TONE -i COVER -map 0 -map 1 -map 2 -c:v:0 libx264 -pix_fmt:v:0 yuv420p -c:a aac -c:v:1 copy -disposition:v:1 attached_pic",
        ),
    )
    .stands_for_its_kind(),
    film(
        "out.mkv",
        Clip::new(
            "cover.mkv",
            "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a flac -attach COVER -metadata:s:t mimetype=image/jpeg \
             -metadata:s:t filename=cover.jpg",
        ),
    ),
    film(
        "out.mov",
        Clip::new(
            "phone.mov",
            "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a aac -movflags use_metadata_tags -metadata com.apple.quicktime.make=Maker \
             -metadata com.apple.quicktime.location.ISO6709=+48.1372+011.5756/",
        ),
    )
    .stands_for_its_kind(),
    film(
        "out.mov",
        Clip::new("timecode.mov", "FILM TONE -c:v libx264 -pix_fmt yuv420p -c:a pcm_s16le -timecode 01:02:03:04"),
    ),
    film(
        "out.mkv",
        Clip::new(
            "two-films.mkv",
            "FILM -f lavfi -i testsrc=s=64x64:r=25:d=1 TONE -map 1 -map 2 -map 0 -c:v libx264 -pix_fmt yuv420p -c:a flac",
        ),
    )
    .asked(Asked { video_stream: Some(2), ..Asked::PLAIN })
    .stands_for_its_kind(),
    film("out.mkv", Clip::new("opaque.mov", "FILM -c:v prores_ks -profile:v 4 -pix_fmt yuva444p10le")),
    film("out.mkv", Clip::new("alpha.mkv", "FILM -vf format=bgra,colorchannelmixer=aa=0.99 -c:v ffv1 -pix_fmt bgra"))
        .asked(Asked { drop_alpha: true, ..Asked::PLAIN }),
];
