from app import CovidCapApp
from bundle_app.bundle_application import main

if __name__ == "__main__":
    main(CovidCapApp)
