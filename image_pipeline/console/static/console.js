// The scripts of all pages. Each acts only on the page that has its elements.

import "./session.js"; // shows the page; those below run once it is there
import "./page.js";
import "./upload-tray.js";
import "./upload-frame.js";
import "./focus.js";
import "./gallery.js";
import "./details.js";
import "./dead-letters.js";
import "./metrics.js";
