"""Side-by-side measurements of zerocopy and its peers; `python -m bench` runs them all."""
