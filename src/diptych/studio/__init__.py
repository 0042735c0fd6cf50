"""studio: both panels in the browser. Pages hold no science; long work runs as jobs (:mod:`diptych.runtime.jobs`)."""
