use axum::body::Body;
use http::{Request, Response};
use tower::{Layer, Service, util::BoxService};
use tower_oauth2_client::{AddAccessTokenLayer, BoxError};

type Http = BoxService<Request<Body>, Response<Body>, BoxError>;

pub fn api(http: Http, layer: AddAccessTokenLayer) -> impl Service<Request<Body>> {
    layer.layer(http)
}
