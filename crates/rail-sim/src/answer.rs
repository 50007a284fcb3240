//! What an answer looks like on the wire: status, code, reference and body, and how each fault spoils
//! it. When it is given, and whether the payment was executed, is `exchange`'s part.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
};
use serde_json::json;

use crate::{config::SimConfig, fault::Fault, keys::Verdict, record::Delivery, wire::Cut};

const RAIL_REFERENCE: HeaderName = HeaderName::from_static("rail-reference");
/// How much padding goes into one chunk of an oversize body.
const CHUNK_BYTES: usize = 64 << 10;

/// An answer before it is given.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) code: Option<String>,
    pub(crate) reference: Option<String>,
    pub(crate) delivery: Delivery,
    body: Bytes,
    header: Option<(HeaderName, String)>,
    padding_bytes: usize,
}

impl Reply {
    fn new(status: u16, code: Option<&str>, reference: Option<&str>, body: &serde_json::Value) -> Self {
        Self {
            status,
            code: code.map(str::to_owned),
            reference: reference.map(str::to_owned),
            delivery: Delivery::Whole,
            body: Bytes::from(body.to_string()),
            header: None,
            padding_bytes: 0,
        }
    }

    /// An answer that carries only a code.
    pub(crate) fn coded(status: u16, code: &str) -> Self {
        Self::new(status, Some(code), None, &json!({ "code": code }))
    }

    /// Any JSON, for whoever asks instead of pays.
    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, None, None, body)
    }

    /// The undisturbed answer: 201 the first time, 200 when replayed; `executed` is the status of an executed payment.
    pub(crate) fn verdict(verdict: &Verdict, replayed: bool, executed: &str) -> Self {
        match verdict {
            Verdict::Executed { reference } => {
                let body = json!({ "reference": reference, "status": executed });
                Self::new(if replayed { 200 } else { 201 }, None, Some(reference), &body)
            }
            Verdict::Refused { status, code } => {
                Self::new(*status, Some(code), None, &json!({ "code": code, "status": "REFUSED" }))
            }
        }
    }

    /// The answer of a fault that stops a request at the door; `None` if there is no answer at all.
    pub(crate) fn at_the_door(fault: Fault, cfg: &SimConfig) -> Option<Self> {
        let with_header = |reply: Self, name, value: String| Self { header: Some((name, value)), ..reply };
        match fault {
            Fault::Throttle => {
                Some(with_header(Self::coded(429, "THROTTLED"), RETRY_AFTER, cfg.retry_after_s.to_string()))
            }
            Fault::Unavailable => Some(Self::coded(503, "NOT_EXECUTED")),
            Fault::Unauthorized => Some(Self::coded(401, "UNAUTHORIZED")),
            Fault::Forbidden => Some(Self::coded(403, "FORBIDDEN")),
            // 307 keeps method and body: a client that follows it pays.
            Fault::Redirect => Some(with_header(Self::coded(307, "MOVED"), LOCATION, "/moved".to_owned())),
            Fault::Gateway => Some(Self {
                code: None,
                body: Bytes::from_static(b"<html><title>404 Not Found</title></html>"),
                ..Self::coded(404, "")
            }),
            Fault::ResetBefore => None,
            _ => Some(Self::coded(500, "INTERNAL")),
        }
    }

    /// The answer as the fault leaves it; `None` if it is never given.
    pub(crate) fn spoiled(self, fault: Fault, cfg: &SimConfig) -> Option<Self> {
        match fault {
            Fault::Hang => None,
            Fault::ErrorAfter => Some(Self::coded(500, "INTERNAL")),
            Fault::Interim => Some(Self::new(202, Some("PENDING"), None, &json!({ "code": "PENDING" }))),
            Fault::Reset => Some(Self { delivery: Delivery::Reset, ..self }),
            Fault::Truncate => Some(Self { delivery: Delivery::Truncated, ..self }),
            Fault::Oversize => Some(Self { delivery: Delivery::Oversize, padding_bytes: cfg.oversize_bytes, ..self }),
            Fault::Garbage => Some(Self {
                status: 200,
                code: None,
                reference: None,
                delivery: Delivery::Garbage,
                body: Bytes::from_static(b"<html>\xff\x00 it works"),
                header: None,
                padding_bytes: 0,
            }),
            _ => Some(self),
        }
    }

    /// The answer for the wire; `cut` is that of its connection.
    pub(crate) fn into_response(self, cut: Cut) -> Response<AnswerBody> {
        let json = HeaderValue::from_static("application/json");
        let whole = self.body.len() + self.padding_bytes;
        let body = match self.delivery {
            // JSON may end in any amount of white space, so the body stays valid however long it is.
            Delivery::Oversize => AnswerBody::whole(padded(self.body, self.padding_bytes)),
            Delivery::Truncated => AnswerBody::broken(self.body.slice(..self.body.len() / 2), End::Early),
            Delivery::Reset => AnswerBody::broken(self.body.slice(..self.body.len() / 2), End::Reset(cut)),
            _ => AnswerBody::whole(VecDeque::from([self.body])),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, json);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(whole));
        let named = self.reference.map(|reference| (RAIL_REFERENCE, reference)).into_iter().chain(self.header);
        for (name, value) in named {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

fn padded(body: Bytes, padding_bytes: usize) -> VecDeque<Bytes> {
    let chunk = Bytes::from(vec![b' '; CHUNK_BYTES.min(padding_bytes)]);
    let mut chunks = VecDeque::from([body]);
    let mut left = padding_bytes;
    while left > 0 {
        let next = chunk.slice(..left.min(chunk.len()));
        left -= next.len();
        chunks.push_back(next);
    }
    chunks
}

#[derive(Debug)]
enum End {
    Whole,
    /// The body ends before its announced length; the connection then closes.
    Early,
    /// The connection is reset.
    Reset(Cut),
}

/// The body of an answer, which may end badly.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    chunks: VecDeque<Bytes>,
    end: End,
    paused: bool,
}

impl AnswerBody {
    pub(crate) fn whole(chunks: VecDeque<Bytes>) -> Self {
        Self { chunks, end: End::Whole, paused: false }
    }

    fn broken(start: Bytes, end: End) -> Self {
        Self { chunks: VecDeque::from([start]), end, paused: false }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if matches!(self.end, End::Whole) {
            return Poll::Ready(None);
        }
        // One pause, in which what was given so far leaves: otherwise the client sees no answer at all.
        if !self.paused {
            self.paused = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match &self.end {
            End::Reset(cut) => {
                cut.arm();
                Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::ConnectionReset))))
            }
            End::Whole | End::Early => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.end, End::Whole) && self.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.end {
            End::Whole => SizeHint::with_exact(self.chunks.iter().map(|chunk| chunk.len() as u64).sum()),
            // The length that the headers announce is not this body's, so it must not claim one.
            End::Early | End::Reset(_) => SizeHint::default(),
        }
    }
}
