//! `Challenge`: what an API answers to a request without a token, or with one that is not enough.

mod items;

use std::{borrow::Cow, fmt};

use http::{
    HeaderMap, HeaderValue,
    header::{GetAll, WWW_AUTHENTICATE},
};

pub(crate) use self::items::{Item, Items, code};
use super::Scope;
use crate::base::Quoted;

/// A challenge in the `WWW-Authenticate` header of a response
/// ([RFC 9110 §11.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1)).
///
/// A response can have several headers, and a header several challenges: [`all`](Self::all) returns them all. Servers often do not
/// keep to the syntax, so whatever can be understood is read: values in single quotes, without quotes, or without a comma between them.
///
/// # Security
///
/// Everything in a challenge is the text of a server. `Debug` escapes and truncates it. The methods return it as it is.
///
/// # Examples
///
/// ```
/// use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
/// use tower_oauth2_client::{Challenge, Scope};
///
/// let mut headers = HeaderMap::new();
/// headers.insert(
///     WWW_AUTHENTICATE,
///     HeaderValue::from_static(
///         r#"Basic realm="x", Bearer error="insufficient_scope", scope="files:read files:write""#,
///     ),
/// );
///
/// let challenges = Challenge::all(&headers);
/// let bearer = challenges.iter().find(|challenge| challenge.has_scheme("Bearer")).unwrap();
/// assert_eq!(bearer.error(), Some("insufficient_scope"));
/// assert_eq!(bearer.scope(), Some(Scope::from("files:read files:write")));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    scheme: Box<str>,
    token68: Option<Box<str>>,
    parameters: Vec<(Box<str>, Box<str>)>,
}

/// A longer field is not read.
const MAX_FIELD: usize = 16 * 1024;
/// More challenges of a response, and more parameters of a challenge, are not read. Real responses have about three of each.
const MAX_CHALLENGES: usize = 64;
const MAX_PARAMETERS: usize = 64;

impl Challenge {
    /// Returns the challenges in all `WWW-Authenticate` headers, in their order.
    ///
    /// A header of more than 16 KiB is not read, and neither is what comes after 64 challenges, or after 64 parameters of a challenge.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{Response, StatusCode};
    /// use tower_oauth2_client::Challenge;
    ///
    /// fn metadata_uri<B>(response: &Response<B>) -> Option<String> {
    ///     let challenges = Challenge::all(response.headers());
    ///     challenges.iter().find_map(|challenge| challenge.resource_metadata().map(str::to_owned))
    /// }
    ///
    /// let response = Response::builder()
    ///     .status(StatusCode::UNAUTHORIZED)
    ///     .header("www-authenticate", r#"Bearer resource_metadata="https://api.example/m""#)
    ///     .body(())
    ///     .unwrap();
    /// assert_eq!(metadata_uri(&response).as_deref(), Some("https://api.example/m"));
    /// ```
    #[must_use]
    pub fn all(headers: &HeaderMap) -> Vec<Self> {
        Self::of_fields(headers.get_all(WWW_AUTHENTICATE))
    }

    /// Returns the challenges in the text of one header, in their order. The limits are those of [`all`](Self::all).
    ///
    /// Use it for another header, such as `Proxy-Authenticate`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::Challenge;
    ///
    /// let challenges = Challenge::parse("Negotiate YII+a==, DPoP algs=\"ES256\"");
    /// assert_eq!(challenges[0].token68(), Some("YII+a=="));
    /// assert_eq!(challenges[1].parameter("algs"), Some("ES256"));
    /// ```
    #[must_use]
    pub fn parse(field: &str) -> Vec<Self> {
        let mut challenges = Vec::new();
        Self::read(field, &mut challenges);
        challenges
    }

    /// Returns the challenges in the fields of a header.
    pub(crate) fn of_fields(fields: GetAll<'_, HeaderValue>) -> Vec<Self> {
        let mut challenges = Vec::new();
        for field in fields {
            if field.len() <= MAX_FIELD {
                Self::read(&String::from_utf8_lossy(field.as_bytes()), &mut challenges);
            }
        }
        challenges
    }

    fn read(field: &str, challenges: &mut Vec<Self>) {
        if field.len() > MAX_FIELD {
            return;
        }
        let earlier = challenges.len();
        let mut items = Items::of(field);
        while let Some(item) = items.next() {
            let scheme = match item {
                Item::Quoted(_) => continue,
                Item::Word(scheme) => scheme,
                Item::Parameter(name, value) if challenges.len() > earlier => {
                    if let Some(last) = challenges.last_mut() {
                        last.add(name, value);
                    }
                    continue;
                }
                // A parameter without a scheme.
                Item::Parameter(..) => "",
            };
            if challenges.len() == MAX_CHALLENGES {
                return;
            }
            let mut challenge = Self {
                scheme: scheme.into(),
                token68: None,
                parameters: Vec::new(),
            };
            match item {
                Item::Parameter(name, value) => challenge.add(name, value),
                _ => challenge.token68 = items.token68().map(Into::into),
            }
            challenges.push(challenge);
        }
    }

    fn add(&mut self, name: &str, value: &str) {
        if self.parameters.len() < MAX_PARAMETERS {
            let value = unescaped(value);
            self.parameters.push((name.into(), value.into()));
        }
    }

    /// Returns the scheme as the server writes it, such as `Bearer`. Empty if the header does not begin with a scheme.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns whether the challenge has this scheme, in any case.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_oauth2_client::Challenge;
    /// assert!(Challenge::parse("bearer")[0].has_scheme("Bearer"));
    /// ```
    #[must_use]
    pub fn has_scheme(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// Returns the error code, such as `invalid_token` ([RFC 6750 §3.1](https://www.rfc-editor.org/rfc/rfc6750#section-3.1)).
    ///
    /// It is the first word of the parameter `error`, since some servers add an explanation.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.parameter("error")
            .map(code)
            .filter(|code| !code.is_empty())
    }

    /// Returns the scope that the request needs ([RFC 6750 §3](https://www.rfc-editor.org/rfc/rfc6750#section-3)).
    ///
    /// `None` if the challenge names none, an empty one, or one that is [invalid](Scope::check).
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        let scope = Scope::from(self.parameter("scope")?);
        (scope.check().is_ok() && scope.iter().next().is_some()).then_some(scope)
    }

    /// Returns the URL of the metadata of the API ([RFC 9728 §5.1](https://www.rfc-editor.org/rfc/rfc9728#section-5.1)).
    ///
    /// # Security
    ///
    /// It can be anything. [`ProtectedResource::discover`](crate::ProtectedResource::discover) checks it before it is requested.
    #[must_use]
    pub fn resource_metadata(&self) -> Option<&str> {
        self.parameter("resource_metadata")
    }

    /// Returns the value of a parameter, whose name can be in any case. If the server repeats it, the first value is returned.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Iterates over the names and values of all parameters, in their order.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_oauth2_client::Challenge;
    /// let challenge = &Challenge::parse(r#"Bearer realm="a", charset="UTF-8""#)[0];
    /// let parameters: Vec<_> = challenge.parameters().collect();
    /// assert_eq!(parameters, [("realm", "a"), ("charset", "UTF-8")]);
    /// ```
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let parameters = self.parameters.iter();
        parameters.map(|(name, value)| (&**name, &**value))
    }

    /// Returns the text that some schemes have in place of parameters, such as `Negotiate`
    /// ([RFC 9110 §11.2](https://www.rfc-editor.org/rfc/rfc9110#section-11.2)).
    #[must_use]
    pub fn token68(&self) -> Option<&str> {
        self.token68.as_deref()
    }
}

/// Returns the text of a quoted string without its escapes.
fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return value.into();
    }
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => chars.next().unwrap_or(c),
            _ => c,
        });
    }
    text.into()
}

/// Without the token68, which belongs to a handshake.
impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = self.parameters();
        let parameters: Vec<_> = parameters
            .map(|(name, value)| (Quoted(name), Quoted(value)))
            .collect();
        f.debug_struct("Challenge")
            .field("scheme", &Quoted(&self.scheme))
            .field("parameters", &parameters)
            .finish_non_exhaustive()
    }
}
