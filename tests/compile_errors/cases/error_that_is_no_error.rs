use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::service_fn;
use tower_oauth2_client::{ClientAuthentication, TokenEndpoint, TokenRequest};

pub struct Failure;

pub fn endpoint(client: ClientAuthentication) -> impl tower::Service<TokenRequest> {
    let http = service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Failure>(Response::new(Full::<Bytes>::default()))
    });
    TokenEndpoint::new(http, "https://as.example/token", client)
}
