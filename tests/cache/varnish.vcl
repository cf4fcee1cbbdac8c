# As the suite configures Varnish for its published results: what comes with it, and an origin.
vcl 4.1;

backend default {
    .host = "{origin_host}";
    .port = "{origin_port}";
}
