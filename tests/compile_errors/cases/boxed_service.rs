use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::util::BoxService;
use tower_oauth2_client::{BoxError, ClientAuthentication, TokenEndpoint, TokenRequest};

type Http = BoxService<Request<Full<Bytes>>, Response<Full<Bytes>>, BoxError>;

pub fn endpoint(http: Http, client: ClientAuthentication) -> impl tower::Service<TokenRequest> {
    TokenEndpoint::new(http, "https://as.example/token", client)
}
