//! What a tenant asks for, and what the engine of a job wants.

use video_upscale::api::profile::{CodecName, FrameRule, HostMemory, InputKind, OutputKind, Range};
use video_upscale::api::worker::{Deinterlace, Encode, EncodePreset, EngineInput, EngineOutput};

/// What a tenant asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Upscaling factor.
    pub scale: u32,
    /// Number of the video stream.
    pub video_stream: Option<u32>,
    /// What becomes of interlaced frames.
    pub deinterlace: Deinterlace,
    /// Whether an alpha channel may be dropped.
    pub drop_alpha: bool,
    /// Whether damage and truncation are refused.
    pub strict: bool,
    /// Most pictures that a segment owns; `None`: the plan chooses.
    pub segment_frames: Option<u32>,
    /// How the result is encoded.
    pub encode: Encode,
}

impl Asked {
    /// Twice as large, nothing else.
    pub const PLAIN: Self = Self {
        scale: 2,
        video_stream: None,
        deinterlace: Deinterlace::Off,
        drop_alpha: false,
        strict: false,
        segment_frames: Some(18),
        encode: Encode { codec: None, quality: 16, preset: EncodePreset::Fast },
    };
}

/// What a job's engine wants, writes and takes.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of its input.
    pub input: EngineInput,
    /// Of its output.
    pub output: EngineOutput,
    /// Of the host's memory.
    pub host_memory: HostMemory,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            input: EngineInput {
                kind: InputKind::Video,
                pad: 4,
                frames: FrameRule { multiple: 8, remainder: 5, minimum: 21 },
                context_before: 24,
                context_after: 4,
            },
            output: EngineOutput {
                kind: OutputKind::Video,
                path: "out.mp4".to_owned(),
                codec: CodecName::H264,
                pixel_format: "yuv420p".to_owned(),
                matrix: "smpte170m".to_owned(),
                range: Range::Limited,
                bad_border: 1,
            },
            host_memory: HostMemory {
                base_mib: 512,
                output_pixel: 0,
                input_pixel_frame: 24,
                output_pixel_frame: 40,
                percent: 115,
            },
        }
    }
}
