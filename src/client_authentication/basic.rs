//! `client_secret_basic`: sends id and secret in the `Authorization` header, form-encoded or raw.

use base64::{Engine, prelude::BASE64_STANDARD};
use form_urlencoded::byte_serialize;
use http::HeaderValue;
use zeroize::Zeroizing;

/// Form-encodes the id and the secret before it joins them, as RFC 6749 §2.3.1 requires.
pub(super) fn encoded(id: &str, secret: &str) -> Result<HeaderValue, String> {
    let mut pair = Zeroizing::new(String::with_capacity(id.len() + secret.len() + 16));
    pair.extend(byte_serialize(id.as_bytes()));
    pair.push(':');
    pair.extend(byte_serialize(secret.as_bytes()));
    header(&pair)
}

/// Joins the id and the secret unencoded, as in RFC 7617 §2: the first colon separates them.
pub(super) fn raw(id: &str, secret: &str) -> Result<HeaderValue, String> {
    header(&Zeroizing::new(format!("{id}:{secret}")))
}

pub(super) fn check_raw_id(id: &str) -> Result<(), String> {
    match id.contains(':') {
        true => Err(
            "`client_id` contains a colon, which `client_secret_basic_raw` cannot send; \
             use `client_secret_basic` or `client_secret_post`"
                .into(),
        ),
        false => Ok(()),
    }
}

fn header(pair: &str) -> Result<HeaderValue, String> {
    let mut value = String::with_capacity(6 + pair.len().div_ceil(3) * 4);
    value.push_str("Basic ");
    BASE64_STANDARD.encode_string(pair, &mut value);
    let mut value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(value: &HeaderValue) -> String {
        assert!(value.is_sensitive());
        let base64 = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        String::from_utf8(BASE64_STANDARD.decode(base64).unwrap()).unwrap()
    }

    #[test]
    fn special_characters_are_form_encoded_or_sent_raw() {
        let odd = " +&=%:~*é";
        let form = "+%2B%26%3D%25%3A%7E*%C3%A9";
        assert_eq!(
            decoded(&encoded(odd, odd).unwrap()),
            format!("{form}:{form}")
        );
        let raw_id = odd.replace(':', "");
        assert_eq!(
            decoded(&raw(&raw_id, odd).unwrap()),
            format!("{raw_id}:{odd}")
        );
    }

    #[test]
    fn colon_in_a_raw_id_is_refused() {
        assert!(check_raw_id("a:b").unwrap_err().contains("client_id"));
    }
}
