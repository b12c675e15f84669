//! `models pull` against a server on this machine that behaves and misbehaves as told.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::common::{Folder, shared};

/// Bytes of the file that `pull yunet` expects.
const SIZE: usize = 317_434;
const FILE: &str = "models/yunet_n_320_320.onnx";

/// How a server answers its n-th request.
#[derive(Clone, Copy)]
enum Answer {
    /// As HTTP has it: all of the file, or the range that was asked for.
    Well,
    /// As `Well`, but the connection closes after so many bytes of the body.
    CutAfter(usize),
    /// All of the file, whatever range was asked for.
    Whole,
    /// With this status and no file.
    Status(&'static str),
}

/// A server that answers one request after the other; its address, and the ranges it was asked for.
fn server(file: Vec<u8>, answers: &'static [Answer]) -> (String, Receiver<Option<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!(
        "http://{}/yunet.onnx",
        listener.local_addr().expect("an address")
    );
    let (sender, ranges) = channel();
    thread::spawn(move || {
        for (answer, stream) in answers.iter().zip(listener.incoming()) {
            let stream = stream.expect("a connection");
            let range = read_request(&stream);
            // The test may be over already.
            let _ = sender.send(range);
            respond(stream, &file, *answer, range);
        }
    });
    (address, ranges)
}

/// The first byte of the range that is asked for.
fn read_request(stream: &TcpStream) -> Option<usize> {
    let mut range = None;
    for line in BufReader::new(stream).lines() {
        let line = line.expect("a line").to_ascii_lowercase();
        if let Some(from) = line.strip_prefix("range: bytes=") {
            range = from.trim_end_matches('-').parse().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    range
}

fn respond(mut stream: TcpStream, file: &[u8], answer: Answer, range: Option<usize>) {
    let (status, from) = match (answer, range) {
        (Answer::Status(status), _) => (status, file.len()),
        (Answer::Whole, _) | (_, None) => ("200 OK", 0),
        (_, Some(from)) => ("206 Partial Content", from),
    };
    let body = &file[from..];
    let mut head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    if status.starts_with("206") {
        head += &format!(
            "Content-Range: bytes {from}-{}/{}\r\n",
            file.len() - 1,
            file.len()
        );
    }
    let sent = match answer {
        Answer::CutAfter(bytes) => &body[..bytes.min(body.len())],
        _ => body,
    };
    // The command may hang up first.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(sent);
}

/// A file of the right size that is another one.
fn wrong() -> Vec<u8> {
    (0..SIZE).map(|i| (i % 251) as u8).collect()
}

fn pull(folder: &Folder, address: &str) -> crate::common::Run {
    folder.viseme(&format!("models pull yunet --from {address}"))
}

fn kept(folder: &Folder) -> Vec<String> {
    let names = folder.files().into_iter();
    names
        .map(|path| {
            path.file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

#[test]
fn a_file_that_is_another_one_is_not_kept() {
    let folder = Folder::new();
    let (address, _) = server(wrong(), &[Answer::Well]);
    pull(&folder, &address).fails_with("its SHA-256 is another one");
    assert_eq!(kept(&folder), [""; 0]);
    let (address, _) = server([wrong(), vec![0; 99]].concat(), &[Answer::Well]);
    pull(&folder, &address).fails_with("larger than the file that was expected");
    assert_eq!(kept(&folder), [""; 0]);
}

#[test]
fn a_server_that_has_nothing() {
    let folder = Folder::new();
    for status in [
        "404 Not Found",
        "403 Forbidden",
        "500 Internal Server Error",
    ] {
        let answers: &[Answer] = Box::leak(Box::new([Answer::Status(status)]));
        let (address, _) = server(wrong(), answers);
        pull(&folder, &address).fails_with(&format!("the server answered {}", &status[..3]));
    }
    // Nobody there.
    let free = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    pull(&folder, &format!("http://{free}/x")).fails_with("cannot be reached");
    pull(&folder, "no-address").fails_with("no-address");
    assert_eq!(kept(&folder), [""; 0]);
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_stopped() {
    let folder = Folder::new();
    let (address, ranges) = server(
        wrong(),
        &[
            Answer::CutAfter(100_000),
            Answer::CutAfter(1_234),
            Answer::Well,
        ],
    );
    pull(&folder, &address).fails_with("its SHA-256 is another one");
    let asked: Vec<Option<usize>> = ranges.iter().collect();
    assert_eq!(asked, [None, Some(100_000), Some(101_234)]);
}

#[test]
fn a_later_run_goes_on_where_an_earlier_one_stopped() {
    let folder = Folder::new();
    let (address, _) = server(wrong(), &[Answer::CutAfter(200_000), Answer::CutAfter(0)]);
    pull(&folder, &address).fails_with("broke off after 200000 of 317434 bytes");
    assert_eq!(kept(&folder), ["yunet_n_320_320.onnx.part"]);
    let (address, ranges) = server(wrong(), &[Answer::Well]);
    pull(&folder, &address).fails_with("its SHA-256 is another one");
    assert_eq!(ranges.iter().collect::<Vec<_>>(), [Some(200_000)]);
}

#[test]
fn the_right_file_is_kept_and_used() {
    let Some(path) = shared("data/models/yunet/yunet_n_320_320.onnx") else {
        return;
    };
    let right = fs::read(path).expect("readable");
    assert_eq!(right.len(), SIZE);
    // Broken once; then by a server that knows no ranges; then from a part that is too long to be one.
    let scenes: [&'static [Answer]; 3] = [
        &[Answer::CutAfter(65_536), Answer::Well],
        &[Answer::CutAfter(65_536), Answer::Whole],
        &[Answer::Well],
    ];
    for (scene, answers) in scenes.into_iter().enumerate() {
        let folder = Folder::new();
        if scene == 2 {
            fs::create_dir(folder.path("models")).expect("a folder");
            folder.write(&format!("{FILE}.part"), vec![7; SIZE + 5]);
        }
        let (address, ranges) = server(right.clone(), answers);
        let run = pull(&folder, &address);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{run}");
        assert!(
            run.out.starts_with("yunet: ") && run.out.contains("Apache-2.0"),
            "{run}"
        );
        assert_eq!(ranges.iter().count(), answers.len());
        assert_eq!(fs::read(folder.path(FILE)).expect("kept"), right);
        assert!(!folder.path(&format!("{FILE}.part")).exists());
        // It is there: nothing to fetch, nobody to ask.
        assert_eq!(pull(&folder, "http://127.0.0.1:9/").code, 0);
        assert!(
            folder
                .viseme("models list")
                .out
                .contains("yunet_n_320_320.onnx")
        );
        // A file that was damaged later is fetched again.
        folder.write(FILE, "damaged");
        let (address, _) = server(right.clone(), &[Answer::Well]);
        assert_eq!(pull(&folder, &address).code, 0);
        assert_eq!(fs::read(folder.path(FILE)).expect("kept"), right);
    }
}
