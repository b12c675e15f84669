//! Fetching a model file: goes on where an earlier try stopped, and keeps nothing that is not the right file.
//!
//! What has arrived so far is in `<file>.part`. A server that takes ranges sends the rest, any other sends all of it
//! again. Size and digest are known beforehand; only a file that has both gets its name.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::Download;
use crate::output::{complain, one_line, show};

/// Times that a broken transfer is taken up again at once, as long as something more arrives each time.
const TRIES: usize = 5;

/// Fetches `what` into `folder`, from `from` alone if given; returns where it is. Does nothing if it is there.
///
/// # Errors
/// If it cannot be fetched or written, or what is fetched is another file.
pub fn pull(what: &Download, from: Option<&str>, folder: &Path) -> Result<PathBuf> {
    let path = folder.join(what.file);
    if fs::read(&path).is_ok_and(|bytes| is_right(what, &bytes)) {
        return Ok(path);
    }
    fs::create_dir_all(folder).with_context(|| {
        format!(
            "{}: the folder for models cannot be made; set VISEME_MODELS to another",
            show(folder)
        )
    })?;
    let urls: Vec<&str> = from.map_or_else(|| what.urls.to_vec(), |url| vec![url]);
    let mut part = Part::open(&path, what)?;
    let bar = progress_bar(what.size);
    let mut last = anyhow!("{}: nowhere to fetch it from", what.name);
    for (index, url) in urls.iter().enumerate() {
        match part.fetch(url, &bar) {
            Ok(()) => {
                bar.finish_and_clear();
                part.finish(&path)?;
                return Ok(path);
            }
            Err(error) => {
                if index + 1 < urls.len() {
                    bar.suspend(|| complain(&format!("{error:#}; trying another place")));
                }
                last = error;
            }
        }
    }
    bar.finish_and_clear();
    part.give_up();
    Err(last)
}

/// A file that is being fetched.
struct Part<'d> {
    what: &'d Download,
    path: PathBuf,
    file: File,
    have: u64,
}

impl<'d> Part<'d> {
    fn open(target: &Path, what: &'d Download) -> Result<Self> {
        let mut name = target.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let cannot = || {
            format!(
                "{}: cannot be written; check the folder's permissions and the disk, or set VISEME_MODELS to another",
                show(&path)
            )
        };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(cannot)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "{}: is being fetched already; wait for the other `viseme models pull`",
                    show(&path)
                )
            }
            // A file system without locks: two at a time end in a wrong digest, no worse.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let have = file.metadata().with_context(cannot)?.len();
        let mut part = Part {
            what,
            path,
            file,
            have,
        };
        if part.have > what.size {
            part.restart()?;
        }
        Ok(part)
    }

    /// Fetches what is missing, in a few tries, and checks all of it.
    fn fetch(&mut self, url: &str, bar: &ProgressBar) -> Result<()> {
        for _ in 0..TRIES {
            if self.have == self.what.size {
                break;
            }
            let before = self.have;
            let broken = self.request(url, bar);
            let advanced = self.have > before;
            match broken {
                Ok(()) => {}
                // Taken up again.
                Err(Broken::Transfer(_)) if advanced => {}
                Err(Broken::Transfer(why)) => bail!(
                    "{}: broke off after {} of {} bytes ({}); run the same command again, it goes on from there",
                    one_line(url),
                    self.have,
                    self.what.size,
                    one_line(&why)
                ),
                Err(Broken::Other(error)) => return Err(error),
            }
        }
        if self.have < self.what.size {
            bail!(
                "{}: breaks off again and again, at {} of {} bytes; run the same command again later",
                one_line(url),
                self.have,
                self.what.size
            );
        }
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_end(&mut bytes))
            .with_context(|| show(&self.path))?;
        if is_right(self.what, &bytes) {
            return Ok(());
        }
        self.restart()?;
        // The place it came from may have changed, or someone else's file was in the way.
        bail!(
            "{}: not the file that was expected (its SHA-256 is another one), and not kept; try again, or fetch it elsewhere with --from URL",
            one_line(url)
        )
    }

    /// Asks once for what is missing, and takes what comes.
    fn request(&mut self, url: &str, bar: &ProgressBar) -> Result<(), Broken> {
        bar.set_position(self.have);
        let (mut body, starts_at) = http::get(url, self.have)?;
        if starts_at != self.have {
            self.restart()?;
            bar.set_position(0);
        }
        let show_path = show(&self.path);
        self.file
            .seek(SeekFrom::Start(self.have))
            .with_context(|| show_path.clone())?;
        let mut block = vec![0; 16 << 10];
        loop {
            let count = body
                .read(&mut block)
                .map_err(|e| Broken::Transfer(e.to_string()))?;
            if count == 0 {
                break;
            }
            if self.have + count as u64 > self.what.size {
                self.restart()?;
                return Err(Broken::Other(anyhow!(
                    "{}: larger than the file that was expected, and not kept; try again, or fetch it elsewhere with --from URL",
                    one_line(url)
                )));
            }
            self.file
                .write_all(&block[..count])
                .with_context(|| format!("{show_path}: cannot be written; check the disk"))?;
            self.have += count as u64;
            bar.set_position(self.have);
        }
        if self.have < self.what.size {
            return Err(Broken::Transfer("the connection was closed".into()));
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .with_context(|| format!("{}: cannot be written; check the disk", show(&self.path)))?;
        self.have = 0;
        Ok(())
    }

    /// Leaves what can be gone on from, and nothing else.
    fn give_up(self) {
        if self.have == 0 {
            // Fails only where it was made; an empty file does no harm.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives the complete, checked file its name.
    fn finish(self, path: &Path) -> Result<()> {
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, path))
            .with_context(|| {
                format!(
                    "{}: cannot be written; check the folder's permissions and the disk",
                    show(path)
                )
            })
    }
}

/// Why a request gave less than was asked for.
enum Broken {
    /// The connection; another request may give the rest.
    Transfer(String),
    /// Something that asking again will not mend.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Broken {
    fn from(error: anyhow::Error) -> Self {
        Broken::Other(error)
    }
}

fn is_right(what: &Download, bytes: &[u8]) -> bool {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.len() as u64 == what.size && hex == what.sha256
}

fn progress_bar(size: u64) -> ProgressBar {
    let bar = ProgressBar::new(size);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

#[cfg(feature = "download")]
mod http {
    //! One blocking request.

    use std::io::Read;
    use std::time::Duration;

    use anyhow::anyhow;
    use ureq::http::StatusCode;

    use super::Broken;
    use crate::output::one_line;

    /// Asks for the bytes from `from` on; the body, and the byte that it really begins with.
    pub fn get(url: &str, from: u64) -> Result<(impl Read + use<>, u64), Broken> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("viseme/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_recv_body(Some(Duration::from_secs(600)))
            .build()
            .into();
        // GitHub's blobs come as JSON unless raw bytes are asked for.
        let mut request = agent
            .get(url)
            .header("Accept", "application/vnd.github.raw, */*;q=0.9");
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let name = one_line(url);
        let response = request.call().map_err(|e| {
            Broken::Other(anyhow!("{name}: cannot be reached ({}); check the network, or fetch it elsewhere with --from URL", one_line(&e.to_string())))
        })?;
        let status = response.status();
        let range = response
            .headers()
            .get("Content-Range")
            .and_then(|value| value.to_str().ok());
        let starts_at = match status {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if range.and_then(first_byte) == Some(from) => from,
            _ => {
                return Err(Broken::Other(anyhow!(
                    "{name}: the server answered {status}; try again later, or fetch it elsewhere with --from URL"
                )));
            }
        };
        Ok((response.into_body().into_reader(), starts_at))
    }

    /// The first number of `bytes 100-199/200`.
    fn first_byte(range: &str) -> Option<u64> {
        range
            .strip_prefix("bytes ")?
            .split('-')
            .next()?
            .parse()
            .ok()
    }
}

#[cfg(not(feature = "download"))]
mod http {
    //! No downloads in this build.

    use anyhow::anyhow;

    use super::Broken;

    pub fn get(url: &str, _from: u64) -> Result<(std::io::Empty, u64), Broken> {
        Err(Broken::Other(anyhow!(
            "{url}: this build cannot download; fetch the file by other means and give it with --detector"
        )))
    }
}
