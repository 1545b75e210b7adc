"""`python -m thea_store` is `thea-store`."""

from thea_store.cli import main

if __name__ == "__main__":
    main()
