"""Side-by-side measurements of zerocopy and nginx; `python -m bench` runs them all."""
