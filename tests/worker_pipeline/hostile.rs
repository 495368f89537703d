//! Names and files made to mislead: names that look like options, patterns or commands; files that name other files or
//! hosts. Names are only names; nothing that a file names is opened.

use std::io::ErrorKind;
use std::net::TcpListener;

use video_upscale::api::worker::Code;

use crate::bench::{Bench, Engine};
use crate::made::{make, make_at};

const FILM: &str = "-f lavfi -i testsrc2=s=64x36:r=25:d=0.6 -c:v libx264 -pix_fmt yuv420p";

#[test]
fn odd_names_and_tags_go_through_as_they_are() {
    let title = "-y 'a' \"b\" $(touch X)\nfile '/etc/passwd' \\ %d [c];#=";
    for (number, (source, destination)) in [
        ("-i $(touch X) 'a' \"b\" `id`;.mp4", "-y/$HOME 'q' %03d [x]\\.mp4"),
        ("concat:a.mp4|b.mp4", "http:out.mp4"),
        ("%03d*?.mp4", "tee: [f=null]a|b.mkv"),
        ("\u{202e}\u{1f3ac} film.mp4", "\u{1f3ac}\u{301}.mp4"),
    ]
    .into_iter()
    .enumerate()
    {
        let bench = Bench::new(&format!("names-{number}"));
        let plain = bench.root().join("plain.mp4");
        make_at(&bench, FILM, &plain);
        let titled = bench.root().join("titled.mp4");
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let tag = format!("title={title}");
        bench.ffmpeg(&[
            "-i".into(),
            text(&plain),
            "-c".into(),
            "copy".into(),
            "-metadata".into(),
            tag,
            text(&titled),
        ]);
        std::fs::rename(titled, bench.source(source)).unwrap();
        bench.upscale(source, destination, 1, &Engine::default());
        let result = std::fs::canonicalize(bench.destination(destination)).unwrap();
        std::fs::rename(result, bench.root().join("result")).unwrap();
        let json = bench.ffprobe(&["-show_format"], &bench.root().join("result"));
        let tags = &json["format"]["tags"];
        let found = tags.get("title").or_else(|| tags.get("TITLE")).unwrap();
        assert_eq!(found, title, "{source:?} to {destination:?}");
        for folder in ["", "source", "destination", "scratch"] {
            assert!(!bench.root().join(folder).join("X").exists(), "{source:?}: a shell has run");
        }
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let bench = Bench::new("paths");
    make(&bench, "film.mp4", FILM);
    make_at(&bench, FILM, &bench.root().join("secret.mp4"));
    let link = |to: &std::path::Path, at: std::path::PathBuf| std::os::unix::fs::symlink(to, at).unwrap();
    link(&bench.root().join("secret.mp4"), bench.source("link.mp4"));
    link(bench.root(), bench.source("up"));
    link(bench.root(), bench.destination("up"));
    link(&bench.root().join("secret.mp4"), bench.destination("link.mp4"));
    let absolute = bench.root().join("secret.mp4").to_string_lossy().into_owned();
    for source in
        ["../secret.mp4", "a/../../secret.mp4", &absolute, "link.mp4", "up/secret.mp4", "a\nb.mp4", "", "."]
    {
        let end = bench.probe(source, "out.mp4");
        assert_eq!(end.code, Code::Usage, "{source:?}: {}", end.message);
        assert_eq!(end.message.lines().count(), 1, "{source:?}: {}", end.message);
    }
    for (destination, code) in [
        ("../out.mp4", Code::Usage),
        ("up/out.mp4", Code::Usage),
        ("up/new/out.mp4", Code::Usage),
        ("a\nb.mp4", Code::Usage),
        ("link.mp4", Code::DestinationNotWritable),
    ] {
        let end = bench.probe("film.mp4", destination);
        assert_eq!(end.code, code, "{destination:?}: {}", end.message);
    }
    assert!(!bench.root().join("out.mp4").exists());
    assert!(!bench.root().join("new").exists(), "a folder was made outside of the claim");
}

#[test]
fn nothing_that_a_file_names_is_opened() {
    let bench = Bench::new("references");
    make(&bench, "good.mp4", FILM);
    let good = bench.source("good.mp4").to_string_lossy().into_owned();
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let port = host.local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/film.mp4");
    for (name, content) in [
        ("hls.mp4", format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n")),
        ("hls-file.mp4", format!("#EXTM3U\n#EXTINF:1,\n{good}\n#EXT-X-ENDLIST\n")),
        ("script.mp4", format!("ffconcat version 1.0\nfile '{good}'\n")),
        ("script.mkv", "ffconcat version 1.0\nfile good.mp4\n".to_owned()),
        ("plain-script.mp4", format!("file '{good}'\n")),
        (
            "dash.mp4",
            format!(
                "<?xml version=\"1.0\"?><MPD type=\"static\" mediaPresentationDuration=\"PT1S\"><Period><AdaptationSet>\
                 <Representation id=\"1\" bandwidth=\"1\"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>"
            ),
        ),
        (
            "session.mp4",
            format!(
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video {port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
            ),
        ),
        ("redirect.mp4", format!("RTSPtext\r\nrtsp://127.0.0.1:{port}/film\r\n")),
        ("reference.mp4", format!("[Reference]\r\nRef1={url}\r\n")),
        ("asx.mp4", format!("<asx version=\"3.0\"><entry><ref href=\"{url}\"/></entry></asx>\n")),
        ("pls.mp4", format!("[playlist]\nFile1={url}\n")),
        ("frames.mp4", format!("AviSource(\"{good}\")\n")),
        (
            "subtitles.mp4",
            "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n".to_owned(),
        ),
        (
            "package.mp4",
            format!(
                "<?xml version=\"1.0\"?><CompositionPlaylist xmlns=\"http://www.smpte-ra.org/schemas/2067-3/2016\"><Id>{url}</Id></CompositionPlaylist>"
            ),
        ),
        ("metadata.mp4", ";FFMETADATA1\ntitle=x\n".to_owned()),
    ] {
        std::fs::write(bench.source(name), content).unwrap();
        let end = bench.probe(name, "out.mp4");
        assert!(
            [Code::InvalidSource, Code::UnsupportedSource].contains(&end.code),
            "{name}: {:?} {}",
            end.code,
            end.message
        );
        let called = host.accept().map(|_| ()).unwrap_err();
        assert_eq!(called.kind(), ErrorKind::WouldBlock, "{name} made the worker call a host");
    }
}
