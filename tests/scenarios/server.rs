//! A token endpoint that answers from a script.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Channel, Full, combinators::UnsyncBoxBody};
use serde_json::{Map, Value};
use tower::util::BoxCloneSyncService;
use tower_oauth2_client::{BoxError, NotSent};

use crate::format::{Answer, Network};

pub(crate) type Http =
    BoxCloneSyncService<Request<Full<Bytes>>, Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;

#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<Script>>);

#[derive(Default)]
pub(crate) struct Script {
    answers: VecDeque<Answer>,
    /// The form of each request that arrived.
    pub(crate) requests: Vec<BTreeMap<String, String>>,
    /// How many requests were dropped before they were answered.
    pub(crate) cancelled: usize,
    /// How many requests arrived when no answer was left.
    pub(crate) unexpected: usize,
}

impl Server {
    /// Adds answers to the end of the script.
    pub(crate) fn push(&self, answers: &[Answer]) {
        self.with_script(|script| script.answers.extend(answers.iter().cloned()));
    }

    pub(crate) fn unused(&self) -> usize {
        self.with_script(|script| script.answers.len())
    }

    pub(crate) fn with_script<T>(&self, f: impl FnOnce(&mut Script) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    pub(crate) fn http(&self) -> Http {
        let server = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |request| {
            server.clone().answer(request)
        }))
    }

    async fn answer(
        self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError> {
        let Ok(body) = request.into_body().collect().await;
        let form = form_urlencoded::parse(&body.to_bytes())
            .into_owned()
            .collect();
        let answer = self.with_script(|script| {
            script.requests.push(form);
            let answer = script.answers.pop_front();
            script.unexpected += usize::from(answer.is_none());
            answer
        });
        let answer = answer.ok_or("no answer was left in the script")?;

        let mut pending = PendingRequest(Some(&self));
        if let Some(delay) = answer.delay {
            tokio::time::sleep(delay.0).await;
        }
        if answer.network == Some(Network::Stalls) {
            std::future::pending::<Infallible>().await;
        }
        pending.0 = None;
        match answer.network {
            Some(Network::Refuses) => Err(NotSent::new("no connection").into()),
            Some(Network::Drops) => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
            _ => Ok(response(answer)),
        }
    }
}

/// Counts the request as cancelled if it is dropped before its answer is sent.
struct PendingRequest<'a>(Option<&'a Server>);

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        if let Some(server) = self.0 {
            server.with_script(|script| script.cancelled += 1);
        }
    }
}

fn response(answer: Answer) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
    let status = match (answer.status, &answer.error) {
        (Some(status), _) => status,
        (None, Some(_)) => 400,
        (None, None) => 200,
    };
    let mut response = Response::builder().status(status);
    if let Some(retry_after) = &answer.retry_after {
        response = response.header(header::RETRY_AFTER, retry_after);
    }
    if let Some(date) = &answer.date {
        response = response.header(header::DATE, date);
    }
    let is_cut = answer.network == Some(Network::Cuts);
    let body = Bytes::from(body(answer));
    response
        .body(if is_cut { cut(&body) } else { whole(body) })
        .unwrap()
}

fn body(answer: Answer) -> String {
    if let Some(body) = answer.body {
        return body;
    }
    let mut members = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            members.insert(name.to_owned(), value);
        }
    };
    let token_type = answer.token_type.unwrap_or_else(|| "Bearer".to_owned());
    set(
        "token_type",
        answer.token.as_ref().map(|_| token_type.into()),
    );
    set("access_token", answer.token.map(Value::from));
    set("expires_in", answer.expires_in);
    set("refresh_in", answer.refresh_in);
    set("refresh_token", answer.refresh_token.map(Value::from));
    set("error", answer.error.map(Value::from));
    set(
        "error_description",
        answer.error_description.map(Value::from),
    );
    match members.is_empty() {
        true => String::new(),
        false => Value::Object(members).to_string(),
    }
}

fn whole(body: Bytes) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Returns a body that breaks off after its first half.
fn cut(body: &Bytes) -> UnsyncBoxBody<Bytes, BoxError> {
    let (mut sender, channel) = Channel::<Bytes, BoxError>::new(1);
    let half = body.slice(..body.len() / 2);
    sender.try_send(Frame::data(half)).unwrap();
    sender.abort(io::Error::from(io::ErrorKind::ConnectionReset).into());
    channel.boxed_unsync()
}
