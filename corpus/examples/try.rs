//! t
use viseme_capture::{pipeline::*,source,tracker::DetectorFile};
fn main(){ let d=DetectorFile::open("/tmp/viseme/yunet_n.gguf".as_ref()).unwrap();
 for f in std::env::args().skip(1){ let t=std::time::Instant::now();
  let r=source::open(f.as_ref(),&Default::default()).and_then(|s|Pipeline::new(s,Mouth::Detect(&d),&Default::default()));
  match r { Err(e)=>println!("OPEN {e}"), Ok(mut p)=>{ let mut n=0; for c in &mut p { match c { Ok(_)=>n+=1, Err(e)=>println!("ERR after {n}: {e}") } } println!("{f}: {n} {:?} {:.2?}",p.summary(),t.elapsed()); } } } }
