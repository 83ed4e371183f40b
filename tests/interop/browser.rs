//! A minimal browser: it follows redirects, keeps cookies, and submits login forms.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode, Uri,
    header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE},
};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// The maximum number of redirects and forms in one visit. A login and a consent take about ten.
const MAX_STEPS: usize = 20;

pub(crate) struct Browser {
    http: Client<HttpConnector, Full<Bytes>>,
    cookies: BTreeMap<String, String>,
    user: &'static str,
    /// The code of a device, to be entered.
    user_code: Option<String>,
    aborts: bool,
    has_aborted: bool,
}

/// Where a visit ended.
#[derive(Debug)]
pub(crate) enum End {
    /// A redirect to `leave_for`.
    Left(Uri),
    /// A page without a form.
    Page(String),
}

impl Browser {
    pub(crate) fn new(user: &'static str) -> Self {
        Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
            cookies: BTreeMap::new(),
            user,
            user_code: None,
            aborts: false,
            has_aborted: false,
        }
    }

    /// Enters this code where a page asks for the code of a device.
    pub(crate) fn entering(mut self, user_code: &str) -> Self {
        self.user_code = Some(user_code.to_owned());
        self
    }

    /// Presses the button `abort` of the first page that has one. The next page is the end of the visit.
    pub(crate) fn aborting(mut self) -> Self {
        self.aborts = true;
        self
    }

    /// Opens `start` and agrees to everything, until it is redirected to `leave_for` or reaches a page without a form.
    pub(crate) async fn visit(&mut self, start: &str, leave_for: &str) -> End {
        let mut at: Uri = start.parse().unwrap();
        let mut form = None;
        for _ in 0..MAX_STEPS {
            let (status, location, page) = self.load(&at, form.take()).await;
            if status.is_redirection() {
                let location = location.expect("a redirect without Location");
                if location.starts_with(leave_for) {
                    return End::Left(location.parse().unwrap());
                }
                at = resolve(&at, &location);
                continue;
            }
            if self.has_aborted {
                return End::Page(page);
            }
            assert_eq!(status, StatusCode::OK, "{at} answers {page}");
            let Some((action, fields)) = self.fill_in(&page) else {
                return End::Page(page);
            };
            at = resolve(&at, &action);
            form = Some(fields);
        }
        panic!("the visit has not ended after {MAX_STEPS} steps, at {at}");
    }

    async fn load(
        &mut self,
        uri: &Uri,
        form: Option<String>,
    ) -> (StatusCode, Option<String>, String) {
        let mut request = Request::builder().uri(uri).header(COOKIE, self.cookie());
        if form.is_some() {
            request = request
                .method(Method::POST)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = request
            .body(Full::from(form.unwrap_or_default()))
            .expect("the request is valid");
        let response = self.http.request(request).await.unwrap();
        self.keep_cookies(&response);

        let status = response.status();
        let location = response
            .headers()
            .get(LOCATION)
            .map(|value| value.to_str().unwrap().to_owned());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, location, String::from_utf8(body.to_vec()).unwrap())
    }

    fn cookie(&self) -> String {
        self.cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn keep_cookies<B>(&mut self, response: &Response<B>) {
        for cookie in response.headers().get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (name, value) = cookie
                .split(';')
                .next()
                .and_then(|pair| pair.split_once('='))
                .expect("a cookie without a value");
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Fills in the form on a page, if there is one. Returns its action and its encoded fields.
    fn fill_in(&mut self, page: &str) -> Option<(String, String)> {
        let form = &page[page.find("<form ")?..];
        let form = &form[..form.find("</form>").expect("a form without an end")];
        let action = attribute(tag(form), "action").expect("a form without an action");

        let mut fields = form_urlencoded::Serializer::new(String::new());
        for input in form.split("<input").skip(1).map(tag) {
            let Some(name) = attribute(input, "name") else {
                continue;
            };
            let value = match (name.as_str(), &self.user_code) {
                ("login" | "password", _) => self.user.to_owned(),
                ("user_code", Some(code)) => code.clone(),
                _ => attribute(input, "value").unwrap_or_default(),
            };
            fields.append_pair(&name, &value);
        }
        if self.aborts && page.contains("name=\"abort\"") {
            self.has_aborted = true;
            fields.append_pair("abort", "yes");
        }
        Some((action, fields.finish()))
    }
}

fn tag(html: &str) -> &str {
    html.split('>').next().unwrap_or_default()
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let after = tag
        .split_once(&format!(" {name}=\""))
        .or_else(|| tag.split_once(&format!("\n{name}=\"")))?
        .1;
    let value = after.split('"').next()?;
    Some(value.replace("&amp;", "&"))
}

/// Resolves a reference that is an absolute URI or an absolute path. The servers here send no other kind.
fn resolve(base: &Uri, reference: &str) -> Uri {
    let reference: Uri = reference.parse().unwrap();
    let mut parts = reference.into_parts();
    if parts.scheme.is_none() {
        parts.scheme = base.scheme().cloned();
        parts.authority = base.authority().cloned();
    }
    Uri::from_parts(parts).unwrap()
}
