use super::*;
use crate::worker::ffmpeg::Said;
use crate::worker::index::Seen;

fn source() -> Source {
    Source {
        path: "in/film.mp4".to_owned(),
        video_stream: None,
        deinterlace: Deinterlace::Off,
        drop_alpha: false,
        strict: false,
    }
}

fn media(streams: &str) -> Media {
    serde_json::from_str(&format!(r#"{{"streams":[{streams}],"format":{{}}}}"#)).unwrap()
}

fn film(more: &str) -> String {
    format!(
        r#"{{"index":0,"codec_type":"video","codec_name":"h264","width":64,"height":36,"pix_fmt":"yuv420p",
        "time_base":"1/12800"{more}}}"#
    )
}

fn word(media: &Media, source: &Source, container: Container) -> String {
    let error = check_header(media, source, container).unwrap_err();
    assert_eq!(error.code(), Code::UnsupportedSource, "{error}");
    error.to_string().split(':').next().unwrap().to_owned()
}

#[test]
fn headers_are_refused_with_their_word() {
    for (more, expected) in [
        (r#","color_transfer":"smpte2084""#, "HighDynamicRange"),
        (r#","color_transfer":"arib-std-b67""#, "HighDynamicRange"),
        (r#","side_data_list":[{"side_data_type":"DOVI configuration record"}]"#, "HighDynamicRange"),
        (r#","color_space":"ictcp""#, "HighDynamicRange"),
        (r#","field_order":"tt""#, "Interlaced"),
        (r#","codec_tag_string":"encv""#, "Encrypted"),
        (r#","tags":{"alpha_mode":"1"}"#, "Alpha"),
    ] {
        assert_eq!(word(&media(&film(more)), &source(), Container::Mp4), expected, "{more}");
    }
    let half = media(&film(r#","field_order":"tt""#));
    let told = check_header(&half, &source(), Container::Mp4).unwrap_err().to_string();
    assert!(told.contains("set input.deinterlace"), "{told}");
    let asked = Source { deinterlace: Deinterlace::Frame, ..source() };
    let accepted = check_header(&half, &asked, Container::Mp4).unwrap();
    assert!(accepted.warnings.iter().any(|told| told.contains("one picture per frame")));
    let two = format!("{},{}", film(""), film("").replace(r#""index":0"#, r#""index":1"#));
    assert_eq!(word(&media(&two), &source(), Container::Mp4), "SeveralVideoStreams");
    let sound = r#"{"index":1,"codec_type":"audio","codec_name":"opus","tags":{"ENC_KEY_ID":"a7e6"}}"#;
    assert_eq!(word(&media(&format!("{},{sound}", film(""))), &source(), Container::Mkv), "Encrypted");
    let named = Source { video_stream: Some(1), ..source() };
    assert_eq!(check_header(&media(&two), &named, Container::Mp4).unwrap().stream.index, 1);
}

#[test]
fn a_matrix_that_cannot_be_converted_is_not_called_high_dynamic_range() {
    for matrix in ["ycgco", "ycgco-re", "smpte2085", "chroma-derived-nc", "chroma-derived-c"] {
        let film = media(&film(&format!(r#","color_space":"{matrix}""#)));
        assert_eq!(word(&film, &source(), Container::Mp4), "ColourMatrix");
        let told = check_header(&film, &source(), Container::Mp4).unwrap_err().to_string();
        assert!(told.contains(&format!("has matrix {matrix}; only bt709, fcc, ")), "{told}");
    }
}

#[test]
fn streams_that_a_container_cannot_hold_are_refused() {
    let with = |stream: &str| media(&format!("{},{stream}", film("")));
    let bitmaps = r#"{"index":1,"codec_type":"subtitle","codec_name":"hdmv_pgs_subtitle"}"#;
    let font = r#"{"index":1,"codec_type":"attachment","codec_name":"ttf"}"#;
    let cover = r#"{"index":1,"codec_type":"video","codec_name":"png","disposition":{"attached_pic":1}}"#;
    let tiff = &cover.replace("png", "tiff");
    for (stream, container) in
        [(bitmaps, Container::Mp4), (bitmaps, Container::Mov), (font, Container::Mp4), (tiff, Container::Mkv)]
    {
        assert_eq!(word(&with(stream), &source(), container), "StreamsDoNotFit", "{stream}");
    }
    for (stream, container) in
        [(bitmaps, Container::Mkv), (font, Container::Mkv), (cover, Container::Mkv), (cover, Container::Mp4)]
    {
        assert!(check_header(&with(stream), &source(), container).is_ok(), "{stream}");
    }
}

#[test]
fn data_streams_are_left_out_with_a_warning() {
    let media = media(&format!(r#"{},{{"index":1,"codec_type":"data"}}"#, film("")));
    let accepted = check_header(&media, &source(), Container::Mp4).unwrap();
    assert!(accepted.warnings.contains(&"data stream 1 is left out".to_owned()));
}

#[test]
fn chapters_of_mp4_are_no_stream_that_is_left_out_and_captions_in_the_pictures_are() {
    let track = r#",{"index":1,"codec_type":"data","codec_tag_string":"text"}"#;
    let warnings = |streams: &str| check_header(&media(streams), &source(), Container::Mp4).unwrap().warnings;
    let left_out =
        |warnings: Vec<String>| warnings.into_iter().filter(|told| told.contains("left out")).count();
    assert_eq!(left_out(warnings(&format!("{}{track}", film("")))), 0);
    assert_eq!(left_out(warnings(&film(r#","closed_captions":0"#))), 0);
    assert_eq!(left_out(warnings(&film(r#","closed_captions":1"#))), 1);
}

#[test]
fn a_display_matrix_that_is_more_than_a_turn_is_told_of() {
    let warnings = |first: i32| {
        let rows = format!("0: {first} 0 0\\n1: 0 65536 0\\n2: 0 0 1073741824");
        let turned = film(&format!(r#","side_data_list":[{{"displaymatrix":"{rows}"}}]"#));
        check_header(&media(&turned), &source(), Container::Mp4).unwrap().warnings
    };
    let told =
        |warnings: Vec<String>| warnings.into_iter().filter(|told| told.contains("display matrix")).count();
    assert_eq!((told(warnings(65_536)), told(warnings(-65_536)), told(warnings(131_072))), (0, 0, 1));
}

#[test]
fn a_file_without_a_film_is_invalid() {
    for streams in ["", r#"{"codec_type":"audio"}"#] {
        let error = check_header(&media(streams), &source(), Container::Mp4).unwrap_err();
        assert_eq!(error.code(), Code::InvalidSource);
    }
}

#[test]
fn playlists_are_known_by_their_first_bytes() {
    for text in ["#EXTM3U\n", "\u{feff}#EXTM3U", "ffconcat version 1.0", "<?xml?><MPD>", "  [playlist]"] {
        let error = check_first_bytes("x", text.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("Playlist: "), "{error}");
    }
    assert!(check_first_bytes("x", b"\x00\x00\x00\x20ftyp").is_ok());
}

fn pictures(pts: &[Option<i64>]) -> Pictures {
    Pictures {
        pts: pts.to_vec(),
        hashes: vec![String::new(); pts.len()],
        headers_differ: false,
        keys: vec![0],
        scenes: Vec::new(),
        interlaced: 0,
        transparent: None,
        first: Seen { key: true, interlaced: false, size: (64, 36), format: "gray".to_owned(), duration: 40 },
        differs: None,
        last_duration: 40,
        complaints: Said::default(),
    }
}

#[test]
fn pictures_are_refused_with_their_word() {
    let base: Ratio = "1/1000".parse().unwrap();
    let word = |pictures: &Pictures, source: &Source, header: Option<i64>| {
        check_pictures(pictures, source, base, None, header)
            .unwrap_err()
            .to_string()
            .split(':')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(word(&pictures(&[Some(0), None]), &source(), None), "BrokenTimes");
    assert_eq!(word(&pictures(&[Some(0), Some(0)]), &source(), None), "BrokenTimes");
    let mut odd = pictures(&[Some(0), Some(40)]);
    odd.interlaced = 1;
    assert_eq!(word(&odd, &source(), None), "Interlaced");
    let mut odd = pictures(&[Some(0), Some(40)]);
    odd.transparent = Some(40);
    let told = check_pictures(&odd, &source(), base, None, None).unwrap_err().to_string();
    assert!(told.starts_with("Alpha: ") && told.contains("at 0.040000 s"), "{told}");
    let mut odd = pictures(&[Some(0), Some(40)]);
    odd.differs = Some((1, odd.first.clone()));
    assert_eq!(word(&odd, &source(), None), "FormatChanges");
    let strict = Source { strict: true, ..source() };
    let short = pictures(&[Some(0), Some(40)]);
    assert_eq!(word(&short, &strict, Some(5_000_000)), "Truncated");
    let mut said = short.clone();
    said.complaints.lines = 3;
    assert_eq!(word(&said, &strict, Some(5_000_000)), "Truncated", "decoders complain of that, too");
    assert_eq!(word(&said, &strict, Some(80_000)), "Damaged");
    let (times, warnings) = check_pictures(&short, &source(), base, None, Some(5_000_000)).unwrap();
    assert_eq!((times, warnings.len()), (vec![0, 40], 1));
    assert_eq!(check_pictures(&short, &source(), base, None, Some(80_000)).unwrap().1.len(), 0);
    // The last second of a film of five.
    assert_eq!(check_pictures(&short, &source(), base, Some(-4_920), Some(5_000_000)).unwrap().1.len(), 0);
}

#[test]
fn what_is_odd_about_a_result_is_told() {
    let even = crate::worker::index::tests::film(&[7, 519], "1/12800", 512);
    assert_eq!(of_result(&even, Container::Mkv, 3), [""; 0]);
    let odd = Index { width: 65, last_duration: 427, pts: vec![0, 427], ..even };
    assert_eq!(of_result(&odd, Container::Mp4, 2), [""; 0]);
    let told = of_result(&odd, Container::Mkv, 3);
    assert!(told.iter().any(|told| told.contains("4:4:4")), "{told:?}");
    assert!(told.iter().any(|told| told.contains("rounded to 1/1000 s")), "{told:?}");
}

#[test]
fn text_is_converted_for_another_family_and_told_of() {
    let with = |codec: &str| {
        media(&format!(r#"{},{{"index":1,"codec_type":"subtitle","codec_name":"{codec}"}}"#, film("")))
    };
    for (codec, container, becomes) in [
        ("subrip", Container::Mp4, Some("mov_text")),
        ("ass", Container::Mov, Some("mov_text")),
        ("webvtt", Container::Mp4, Some("mov_text")),
        ("mov_text", Container::Mkv, Some("ass")),
        ("mov_text", Container::Mp4, None),
        ("ass", Container::Mkv, None),
    ] {
        let media = with(codec);
        assert_eq!(container.converts(&media.streams[1]), becomes, "{codec}");
        let warnings = check_header(&media, &source(), container).unwrap().warnings;
        let told = warnings.iter().any(|told| told.contains("is converted from"));
        assert_eq!(told, becomes.is_some(), "{codec}: {warnings:?}");
    }
    assert_eq!(word(&with("eia_608"), &source(), Container::Mkv), "StreamsDoNotFit");
}
