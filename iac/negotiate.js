// Answers a URL without a format with the best thumbnail that the client accepts (docs/adr/0030):
// /a/photo_512w becomes /a/photo_512w.avif, .webp or .jpeg. A CloudFront Function on viewer requests and responses.
// `make edge-function` copies this file into iac/template.yaml, which fills in the three texts in quotes.

const FORMATS = ['avif', 'webp', 'jpeg'].filter(format => '${Formats}'.includes(format));  // best first
const NEGOTIATES = '${Negotiates}' === 'true';  // whether the keys of thumbnails end with .{format}
const ORIGINS = '${Origins}'.split(',');  // whose scripts may read the thumbnails; * for all
const EXACT = /\.(avif|webp|jpeg|json)$/;  // keys of thumbnails and manifests

function handler(event) {
  if (event.response) {
    return withCors(event.response, event.request.headers.origin);
  }
  const request = event.request;
  if (request.uri === '/') {  // to S3 it would mean the bucket itself
    return {
      statusCode: 404,
      statusDescription: 'Not Found',
      headers: {'cache-control': {value: 'max-age=1'}, 'x-content-type-options': {value: 'nosniff'}},
    };
  }
  if (NEGOTIATES && !EXACT.test(request.uri)) {
    request.uri += '.' + best(accepted(request.headers.accept));
  }
  return request;
}

// Chooses a format. A wildcard counts only for the format that most clients show: Safari sent image/* before it
// knew WebP. A client that accepts nothing gets that format too, because any picture is better than none.
function best(accepts) {
  const safest = FORMATS.slice().reverse();
  const named = FORMATS.filter(format => accepts['image/' + format]);
  const allowed = safest.filter(format =>
    ['image/' + format, 'image/*', '*/*'].filter(range => range in accepts).slice(0, 1).some(range => accepts[range]));
  return named.concat(allowed, safest)[0];
}

// Reads an Accept header: media range -> whether it is accepted, which q=0 denies.
function accepted(header) {
  const accepts = {};
  const lines = header ? header.multiValue || [header] : [];
  lines.map(line => line.value).join(',').replace(/"(\\.|[^"\\])*"/g, '').toLowerCase().split(',').forEach(item => {
    const parts = item.split(';').map(part => part.trim());
    accepts[parts[0]] = !parts.slice(1).some(part => /^q=0(\.0*)?$/.test(part));
  });
  return accepts;
}

// Allows scripts to read the answer. With CORS in the response headers policy, CloudFront would write Vary itself,
// and Accept would not be in it.
function withCors(response, origin) {
  if (ORIGINS.includes('*')) {
    response.headers['access-control-allow-origin'] = {value: '*'};
  } else if (origin && ORIGINS.some(allowed => pattern(allowed).test(origin.value))) {
    response.headers['access-control-allow-origin'] = {value: origin.value};
  }
  return response;
}

function pattern(allowed) {
  return new RegExp('^' + allowed.replace(/\./g, '\\.').replace(/\*/g, '[A-Za-z0-9.-]+') + '$');
}
