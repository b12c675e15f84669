//! Model files: the published one, which is part of the command, or any other; checked before use.

use std::cell::OnceCell;
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use memmap2::Mmap;
use viseme_capture::file;
use viseme_corpus::detector::models_folder;
use viseme_engine::model::auto_avsr;
use viseme_engine::model::conformer::Model;
use viseme_format::gguf::Reader;
use viseme_format::spec::{Family, Modality, ModelSpec, Weights};
use viseme_format::widen::widen;

use crate::output::show;
use crate::sys;

/// File name of the published model.
pub const PUBLISHED: &str = "grid-vsr.gguf";

/// Largest model file that is read.
const MOST_BYTES: u64 = 1 << 30;

/// Model files from here on are mapped and not copied, and their digest is left to `viseme info`.
const MAPPED_BYTES: u64 = 64 << 20;

#[cfg(published_model)]
static EMBEDDED: Option<&[u8]> = Some(include_bytes!("../../models/grid-vsr.gguf"));
#[cfg(not(published_model))]
static EMBEDDED: Option<&[u8]> = None;

/// A model file in memory.
pub struct ModelFile {
    name: String,
    content: Content,
    /// The same with F32 matrices, made when a model in half precision is opened.
    wide: OnceCell<Content>,
}

enum Content {
    /// In whole words: the engine wants the bytes aligned.
    Words { words: Vec<u64>, len: usize },
    /// Pages of the file.
    Mapped(Mmap),
}

impl ModelFile {
    /// The file at `path`, else the published model.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        match (path, EMBEDDED) {
            (Some(path), _) => Self::read(path),
            (None, Some(bytes)) => Ok(Self::new(PUBLISHED, bytes)),
            (None, None) => Self::read(&published_beside().ok_or_else(|| {
                anyhow!(
                    "no model: this build has none in it; give --model FILE, or put {PUBLISHED} into {}",
                    models_folder().map_or_else(|_| "VISEME_MODELS".into(), |f| show(&f))
                )
            })?),
        }
    }

    /// What the model is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.content.bytes()
    }

    /// The file, its container, metadata and digest checked.
    ///
    /// # Errors
    /// If it is not a sound model file.
    pub fn inspect(&self) -> Result<(Reader<'_>, ModelSpec<'_>)> {
        let check = || -> Result<_> {
            let reader = Reader::open(self.bytes())?;
            reader.verify()?;
            Ok((reader, ModelSpec::read(&reader)?))
        };
        check().with_context(|| self.name.clone())
    }

    /// The Auto-AVSR model in the file; `None` if it holds another one. The digest of a large file is not checked.
    ///
    /// # Errors
    /// If the file is not sound.
    pub fn auto_avsr(&self) -> Result<Option<auto_avsr::Model<'_>>> {
        let open = || -> Result<_> {
            let reader = Reader::open(self.bytes())?;
            if let Content::Words { .. } = self.content {
                reader.verify()?;
            }
            let spec = ModelSpec::read(&reader)?;
            Ok(match spec.family {
                Family::AutoAvsr(_) if spec.weights == Weights::F16 => {
                    Some(auto_avsr::Model::open(self.widened()?)?)
                }
                Family::AutoAvsr(_) => Some(auto_avsr::Model::open(self.bytes())?),
                _ => None,
            })
        };
        open().with_context(|| self.name.clone())
    }

    /// The file with F32 matrices instead of F16 ones.
    fn widened(&self) -> Result<&[u8]> {
        let wide = match self.wide.get() {
            Some(wide) => wide,
            None => {
                let wide = Content::words(&widen(self.bytes())?);
                self.wide.get_or_init(|| wide)
            }
        };
        Ok(wide.bytes())
    }

    /// The lip reader in the file.
    ///
    /// # Errors
    /// If the file is not sound, or holds something else.
    pub fn open(&self) -> Result<Model<'_>> {
        let (_, spec) = self.inspect()?;
        let name = &self.name;
        match spec.family {
            Family::Conformer(_) => {}
            Family::AutoAvsr(_) => bail!(
                "{name}: a model of Auto-AVSR, which this command does not take; use viseme transcribe, or give another"
            ),
            Family::Yunet(_) => bail!(
                "{name}: a face detector, which reads no lips; give it with --detector, and a lip reader with --model"
            ),
        }
        if spec.modality != Modality::Video {
            bail!(
                "{name}: needs sound (modality {}), which this version does not take; give a video model",
                modality(spec.modality)
            );
        }
        Model::open(self.bytes()).with_context(|| name.clone())
    }

    fn read(path: &Path) -> Result<Self> {
        let name = show(path);
        let length =
            std::fs::metadata(path).map_or(0, |data| if data.is_file() { data.len() } else { 0 });
        if length >= MAPPED_BYTES {
            let pages = sys::map(path).map_err(|e| {
                anyhow!("{name}: the model cannot be read ({e}); give a .gguf file")
            })?;
            return Ok(ModelFile {
                name,
                content: Content::Mapped(pages),
                wide: OnceCell::new(),
            });
        }
        let bytes = file::read(path, MOST_BYTES)
            .map_err(|e| anyhow!("{name}: the model cannot be read ({e}); give a .gguf file"))?;
        Ok(Self::new(&name, &bytes))
    }

    fn new(name: &str, bytes: &[u8]) -> Self {
        ModelFile {
            name: name.into(),
            content: Content::words(bytes),
            wide: OnceCell::new(),
        }
    }
}

impl Content {
    fn words(bytes: &[u8]) -> Self {
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Content::Words {
            words,
            len: bytes.len(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Content::Words { words, len } => &bytemuck::cast_slice(words)[..*len],
            Content::Mapped(pages) => pages,
        }
    }
}

/// Whether the published model is part of the command.
pub fn is_embedded() -> bool {
    EMBEDDED.is_some()
}

/// The published model's file, for builds that do not have it in them: in the models folder, or beside the command.
pub fn published_beside() -> Option<PathBuf> {
    let beside = env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join(PUBLISHED)));
    let kept = models_folder().ok().map(|folder| folder.join(PUBLISHED));
    [kept, beside]
        .into_iter()
        .flatten()
        .find(|path| path.is_file())
}

/// A modality as options and metadata spell it.
pub fn modality(modality: Modality) -> &'static str {
    match modality {
        Modality::Video => "video",
        Modality::Audio => "audio",
        Modality::AudioVideo => "av",
    }
}
