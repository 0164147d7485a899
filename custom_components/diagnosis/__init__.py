"""From a raw scan to its results: `diagnose`, alone or for a queue of scans."""
